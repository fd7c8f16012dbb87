package devca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/cas"
	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/db"
	"go.step.sm/crypto/jose"
	kms "go.step.sm/crypto/kms/apiv1"
)

// Files below Options.Dir/authority. The layout is documented in
// docs/reference/devca.md; a stock step-ca runs from the same ca.json.
const (
	authorityDir     = "authority"
	configFile       = "ca.json"
	rootFile         = "root_ca.crt"
	rootKeyFile      = "secrets/root_ca_key"
	intermediateFile = "intermediate_ca.crt"
	intermediateKey  = "secrets/intermediate_ca_key"
	passwordFile     = "secrets/provisioner-password"
	databaseFile     = "db/devca.bbolt"
)

// backdate is how long before its making a certificate begins to be valid: so far
// behind may the clock of who verifies it be.
const backdate = 5 * time.Minute

// caLife is the life of root and intermediate, as smallstep's own tool has it.
const caLife = 10 * 365 * 24 * time.Hour

// leafTemplate is what a certificate of this authority says: the names of the
// token and nothing of the request. No subject: names are SANs.
const leafTemplate = `{
	"subject": {},
	"sans": {{ toJson .SANs }},
	"keyUsage": ["digitalSignature"],
	"extKeyUsage": ["serverAuth", "clientAuth"]
}`

func (o Options) file(name string) string { return filepath.Join(o.Dir, authorityDir, name) }

// Init makes the authority unless o.Dir has one, brings its configuration up
// to date with o, and writes the files for clients. Whoever calls it twice, or
// twice at once, gets the same authority; a crash in the middle leaves none.
func Init(ctx context.Context, o Options) (Client, error) {
	if err := o.problems(); err != nil {
		return Client{}, fmt.Errorf("options of the authority: %w", err)
	}
	if _, err := os.Stat(o.file(configFile)); errors.Is(err, fs.ErrNotExist) {
		if err := create(ctx, o); err != nil {
			return Client{}, fmt.Errorf("make an authority in %s: %w", o.Dir, err)
		}
	}
	cfg, err := update(o.file(configFile), o)
	if err != nil {
		return Client{}, err
	}
	return share(o, cfg)
}

// create builds the authority in a directory beside its place and moves it
// there whole.
func create(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(o.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{"secrets", "db"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o700); err != nil {
			return err
		}
	}
	if err := createCertificates(ctx, tmp, cmp.Or(o.Name, DefaultName)); err != nil {
		return err
	}
	cfg, password, err := newConfig(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, passwordFile), password, 0o600); err != nil {
		return err
	}
	if err := cfg.Save(filepath.Join(tmp, configFile)); err != nil {
		return err
	}
	err = os.Rename(tmp, filepath.Join(o.Dir, authorityDir))
	if _, there := os.Stat(o.file(configFile)); there == nil {
		return nil // ours, or that of somebody who was faster
	}
	return err
}

// createCertificates makes root and intermediate with smallstep's own signer.
func createCertificates(ctx context.Context, dir, name string) error {
	service, err := cas.New(ctx, apiv1.Options{Type: apiv1.SoftCAS, IsCreator: true})
	if err != nil {
		return err
	}
	creator, ok := service.(apiv1.CertificateAuthorityCreator)
	if !ok {
		return errors.New("smallstep's softcas can't create authorities")
	}
	request := func(typ apiv1.CertificateAuthorityType, cn string, path int) *apiv1.CreateCertificateAuthorityRequest {
		return &apiv1.CreateCertificateAuthorityRequest{
			Name: cn, Type: typ, Lifetime: caLife, Backdate: backdate,
			CreateKey: &apiv1.CreateKeyRequest{SignatureAlgorithm: kms.ECDSAWithSHA256},
			Template: &x509.Certificate{
				Subject:  pkix.Name{CommonName: cn, Organization: []string{name}},
				KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
				IsCA:     true, BasicConstraintsValid: true, MaxPathLen: path, MaxPathLenZero: path == 0,
			},
		}
	}
	root, err := creator.CreateCertificateAuthority(request(apiv1.RootCA, name+" root", 1))
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	r := request(apiv1.IntermediateCA, name+" intermediate", 0)
	r.Parent = root
	inter, err := creator.CreateCertificateAuthority(r)
	if err != nil {
		return fmt.Errorf("intermediate: %w", err)
	}
	return errors.Join(
		writeCertificate(filepath.Join(dir, rootFile), root.Certificate),
		writeKey(filepath.Join(dir, rootKeyFile), root.PrivateKey),
		writeCertificate(filepath.Join(dir, intermediateFile), inter.Certificate),
		writeKey(filepath.Join(dir, intermediateKey), inter.PrivateKey),
	)
}

// newConfig is the ca.json of a new authority, and its provisioner's password.
func newConfig(o Options) (*config.Config, []byte, error) {
	password := []byte(rand.Text())
	public, sealed, err := jose.GenerateDefaultKeyPair(password)
	if err != nil {
		return nil, nil, fmt.Errorf("key of the provisioner: %w", err)
	}
	private, err := sealed.CompactSerialize()
	if err != nil {
		return nil, nil, fmt.Errorf("key of the provisioner: %w", err)
	}
	noExtension := true
	claims := &provisioner.Claims{
		MinTLSDur:                  &provisioner.Duration{Duration: DefaultMinLifetime},
		MaxTLSDur:                  &provisioner.Duration{Duration: DefaultMaxLifetime},
		DefaultTLSDur:              &provisioner.Duration{},
		DisableSmallstepExtensions: &noExtension,
	}
	setLifetimes(claims, o)
	names := o.Names
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1"}
	}
	tls := config.DefaultTLSOptions
	tls.MinVersion, tls.MaxVersion = 1.3, 1.3
	cfg := &config.Config{
		Address:    cmp.Or(o.Listen, DefaultListen),
		DNSNames:   names,
		CommonName: cmp.Or(o.Name, DefaultName),
		TLS:        &tls,
		AuthorityConfig: &config.AuthConfig{
			Claims: claims, Backdate: &provisioner.Duration{Duration: backdate},
			Provisioners: provisioner.List{&provisioner.JWK{
				Type: "JWK", Name: Provisioner, Key: public, EncryptedKey: private,
				Options: &provisioner.Options{X509: &provisioner.X509Options{Template: leafTemplate}},
			}},
		},
	}
	if o.Database {
		cfg.DB = &db.Config{Type: "bbolt"}
	}
	o.place(cfg)
	return cfg, password, nil
}

// setLifetimes puts what o asks for into claims. The default is a day, or the
// maximum when that is less.
func setLifetimes(claims *provisioner.Claims, o Options) {
	claims.MinTLSDur.Duration = cmp.Or(o.MinLifetime, claims.MinTLSDur.Duration)
	claims.MaxTLSDur.Duration = cmp.Or(o.MaxLifetime, claims.MaxTLSDur.Duration)
	claims.DefaultTLSDur.Duration = max(claims.MinTLSDur.Duration, min(24*time.Hour, claims.MaxTLSDur.Duration))
}

// place makes the files that cfg names those of o.Dir.
func (o Options) place(cfg *config.Config) {
	cfg.Root = []string{o.absolute(rootFile)}
	cfg.IntermediateCert, cfg.IntermediateKey = o.absolute(intermediateFile), o.absolute(intermediateKey)
	if cfg.DB != nil {
		cfg.DB.DataSource = o.absolute(databaseFile)
	}
}

func (o Options) absolute(name string) string {
	p := o.file(name)
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}

func writeCertificate(path string, c *x509.Certificate) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o644)
}

func writeKey(path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
