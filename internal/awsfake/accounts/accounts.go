// Package accounts stands in for AWS Cloud Map as one account sees it with
// which others share namespaces through AWS RAM.
//
// It owns where a call goes: to the registry of the account that its ARN or its
// OwnerAccount names, else to the account's own, which knows no id of another's.
// It must not know what an operation does: behind it are whole registries, one
// for each account. Start reading at [View].
package accounts

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
)

// View is Cloud Map as Account sees it. It serves HTTP.
type View struct {
	Account string                  // of the caller
	All     map[string]http.Handler // registries by account, the caller's too
}

// ServeHTTP implements [http.Handler].
func (v View) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); op == "ListNamespaces" {
		v.listNamespaces(w, r, body)
		return
	}
	v.All[v.meant(body)].ServeHTTP(w, with(r, body))
}

func with(r *http.Request, body []byte) *http.Request {
	c := r.Clone(r.Context())
	c.Body, c.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return c
}

// meant is the account that a request names, by OwnerAccount or in an ARN.
func (v View) meant(body []byte) string {
	var in struct{ OwnerAccount string }
	_ = json.Unmarshal(body, &in) // what is no JSON is for the registry to refuse
	if v.All[in.OwnerAccount] != nil {
		return in.OwnerAccount
	}
	if _, rest, ok := strings.Cut(string(body), `"arn:aws:servicediscovery:`); ok {
		if parts := strings.SplitN(rest, ":", 3); len(parts) == 3 && v.All[parts[1]] != nil {
			return parts[1]
		}
	}
	return v.Account
}

// listNamespaces joins what the accounts have. All fits into one page.
func (v View) listNamespaces(w http.ResponseWriter, r *http.Request, body []byte) {
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		v.All[v.Account].ServeHTTP(w, with(r, body))
		return
	}
	owner := ""
	if filters, ok := in["Filters"].([]any); ok {
		in["Filters"] = slices.DeleteFunc(filters, func(f any) bool {
			one, _ := f.(map[string]any)
			if one["Name"] != "RESOURCE_OWNER" {
				return false
			}
			if values, _ := one["Values"].([]any); len(values) == 1 {
				owner, _ = values[0].(string)
			}
			return true
		})
	}
	asked, err := json.Marshal(in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	all := []json.RawMessage{}
	for account, registry := range v.All {
		if mine := account == v.Account; owner == "SELF" && !mine || owner == "OTHER_ACCOUNTS" && mine {
			continue
		}
		rec := httptest.NewRecorder()
		registry.ServeHTTP(rec, with(r, asked))
		var out struct {
			Namespaces []json.RawMessage
			NextToken  string
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &out); rec.Code != http.StatusOK || err != nil || out.NextToken != "" {
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes())
			return
		}
		all = append(all, out.Namespaces...)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(map[string]any{"Namespaces": all})
}
