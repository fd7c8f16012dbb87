// Package page is the operator's page: what a browser is given, embedded.
//
// It owns the files and who may frame or extend them. It holds no data of a
// mesh: the page asks for that at /events, where the token is checked.
// vendor/ has the libraries for graphs and charts, see package.json. Start
// reading at [Handler].
package page

import (
	"embed"
	"net/http"
)

//go:embed index.html page.css *.js vendor
var files embed.FS

// Handler serves the page at / and its parts below.
func Handler() http.Handler {
	static := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		static.ServeHTTP(w, r)
	})
}
