package tandem

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

type identity struct {
	credential syscall.Credential
	home       string
}

// lookUp resolves user[:group] in the container's own passwd and group files,
// by Docker's rules: a number needs no entry, and has group 0 without one.
func lookUp(text string) (identity, error) {
	name, group, hasGroup := strings.Cut(text, ":")
	id := identity{home: "/"}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err == nil {
		uid, uerr := number(u.Uid)
		gid, gerr := number(u.Gid)
		if err := errors.Join(uerr, gerr); err != nil {
			return id, err
		}
		id.credential.Uid, id.credential.Gid, id.home = uid, gid, u.HomeDir
		groups, _ := u.GroupIds() // an image without /etc/group has none
		for _, g := range groups {
			if n, err := number(g); err == nil && n != gid {
				id.credential.Groups = append(id.credential.Groups, n)
			}
		}
	} else if id.credential.Uid, err = number(name); err != nil {
		return id, fmt.Errorf("user %q is neither a number nor in the image's /etc/passwd", name)
	}
	if !hasGroup {
		return id, nil
	}
	id.credential.Groups = nil
	if g, err := user.LookupGroup(group); err == nil {
		group = g.Gid
	}
	if id.credential.Gid, err = number(group); err != nil {
		return id, fmt.Errorf("group %q is neither a number nor in the image's /etc/group", group)
	}
	return id, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
