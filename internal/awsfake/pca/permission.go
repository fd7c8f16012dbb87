package pca

import (
	"slices"
	"time"

	"patchbay/internal/awsfake/wire"
)

// acm is the one service that may be given a permission.
const acm = "acm.amazonaws.com"

func (p *PCA) createPermission(c *wire.Call, in *permissionIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	if in.Principal != acm {
		return nil, wire.Fail("ValidationException", "Principal: allowed: %s", acm)
	}
	if len(ca.permissions) > 0 {
		return nil, wire.Fail("PermissionAlreadyExistsException", "There is a permission of %s", acm)
	}
	ca.permissions = append(ca.permissions, permission{Actions: in.Actions, CertificateAuthorityArn: ca.arn, CreatedAt: wire.At(time.Now()), Principal: in.Principal, SourceAccount: in.SourceAccount})
	return &nothing{}, nil
}

func (p *PCA) deletePermission(c *wire.Call, in *unpermitIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	ca.permissions = nil
	return &nothing{}, nil
}

func (p *PCA) listPermissions(c *wire.Call, in *pageIn) (*permissionsOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	return &permissionsOut{Permissions: append([]permission{}, slices.Clone(ca.permissions)...)}, nil
}
