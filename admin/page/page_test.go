package page_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"patchbay/admin/api"
	"patchbay/admin/page"
	"patchbay/admin/sample"
)

// troubled makes what people look for: a service that fails for some, one whose
// endpoints are down, and an Envoy that refuses.
func troubled(m *sample.Mesh, failing, down string) {
	m.Change(failing, func(_ *api.Service, callers []*api.Edge) {
		for _, e := range callers {
			e.ErrorRate = e.RequestRate / 12
		}
	})
	m.Change(down, func(s *api.Service, _ []*api.Edge) {
		n := s.Endpoints["HEALTHY"]
		s.Endpoints["HEALTHY"], s.Endpoints["UNHEALTHY"] = 0, n
	})
}

// small are the labels on the map that can't be read, or lie on others, or
// outside.
const small = `(() => {
	const cy = document.querySelector('#graph').cytoscape, out = [];
	const boxes = cy.nodes().map((n) => ({ id: n.id(), b: n.renderedBoundingBox({ includeLabels: false }), words: n.data('label'), font: n.numericStyle('font-size') * cy.zoom() }));
	boxes.forEach((x, i) => {
		if (x.font < 8.5) out.push(x.id + ': letters of ' + x.font.toFixed(1) + ' pixels');
		if (x.b.x1 < -2 || x.b.y1 < -2 || x.b.x2 > cy.width() + 2 || x.b.y2 > cy.height() + 2) out.push(x.id + ' is outside');
		for (const y of boxes.slice(i + 1)) if (x.b.x1 < y.b.x2 - 2 && y.b.x1 < x.b.x2 - 2 && x.b.y1 < y.b.y2 - 2 && y.b.y1 < x.b.y2 - 2) out.push(x.id + ' lies on ' + y.id);
	});
	return boxes.length < 2 ? ['the map is empty'] : out;
})()`

// TestReadable: with 3, 30 and 100 services every name on the map can be read,
// what fails is seen on it, and no rule of accessibility is broken in any view,
// light or dark.
func TestReadable(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		services, tasks int
		failing, down   string
		scheme          string
	}{
		{3, 6, "backend.shop", "database.shop", "light"},
		{30, 90, "payment-api.shop", "mail-api.shop", "dark"},
		{100, 300, "payment-api.shop", "mail-store.shop", "light"},
	} {
		t.Run(fmt.Sprint(c.services), func(t *testing.T) {
			m := sample.New(c.services, c.tasks)
			troubled(m, c.failing, c.down)
			b := open(t, shown(t, m), 1400, 860, prefers(c.scheme))
			b.until(`document.querySelector('#state').textContent.includes('finding')`)
			b.until(`document.querySelectorAll('.chart canvas').length === 2`)
			if bad := value[[]string](b, small); len(bad) > 0 {
				t.Errorf("not readable: %s", strings.Join(bad, "\n"))
			}
			if !value[bool](b, `document.querySelector('#graph').cytoscape.elements().some((e) => /[0-9] % failed/.test(e.data('label')))`) {
				t.Error("the map does not say what fails")
			}
			if value[string](b, `document.querySelector('#graph').cytoscape.getElementById('shop/`+strings.TrimSuffix(c.down, ".shop")+`').data('state')`) != "bad" {
				t.Error("the map does not say what is down")
			}
			if *update { // for charts with something on them
				b.until(`performance.now() > 4500`)
			}
			b.picture(fmt.Sprintf("map-%d-%s", c.services, c.scheme))
			b.do(chromedp.Evaluate[chromedp.Void](string(axe)))
			views := []string{"map", "services", "sidecars", "findings", "events"}
			if c.services == 100 {
				views = views[:2] // the others are the same
			}
			for _, other := range []bool{false, true} {
				if other && c.services != 3 {
					break
				}
				if other {
					b.do(chromedp.Click(chromedp.CSS("#theme")))
				}
				for _, view := range views {
					b.do(chromedp.Evaluate[chromedp.Void](`location.hash = '/` + view + `/service/` + c.failing + `'`))
					b.until(`!document.querySelector('#` + view + `').hidden && document.querySelector('#detail h2').textContent.includes('` + c.failing + `')`)
					b.accessible(view)
				}
			}
			b.quiet()
		})
	}
}

// accessible has axe look at the page.
func (b *browser) accessible(view string) {
	b.t.Helper()
	for _, v := range value[[]string](b, `axe.run().then((r) => r.violations.map((v) => v.id + ': ' + v.help + ': ' + v.nodes.map((n) => n.html + ' ' + n.failureSummary).slice(0, 3).join(' | ')))`) {
		b.t.Errorf("%s, %s: %s", view, value[string](b, `document.documentElement.dataset.theme`), v)
	}
}

// TestChange: what changes in the mesh is seen without a reload: on the map, in
// the lists, in the details and among the events.
func TestChange(t *testing.T) {
	m := sample.New(30, 60)
	b := open(t, shown(t, m)+"#/services/service/cart-api.shop", 1400, 860)
	b.until(`document.querySelector('#state').textContent.includes('nothing is wrong')`)
	b.until(`document.querySelector('#detail').innerText.includes('10.1.0.')`)
	b.do(chromedp.Evaluate[chromedp.Void](`window.same = true`))
	troubled(m, "cart-gateway.shop", "cart-api.shop")
	b.until(`document.querySelector('#state').textContent.includes('1 finding')`)
	b.until(`[...document.querySelectorAll('#services tr')].some((r) => r.innerText.includes('cart-api.shop') && r.innerText.includes('2 unhealthy') && r.innerText.includes('PB1502'))`)
	b.until(`document.querySelector('#detail').innerText.includes('PB1502') && document.querySelector('#detail').innerText.includes('0 endpoints can be called, it was 2')`)
	b.do(chromedp.Click(chromedp.CSS("#tab-events")))
	b.until(`document.querySelector('#events .bad').innerText.includes('PB1502')`)
	b.do(chromedp.Click(chromedp.CSS("#tab-map")))
	b.until(`document.querySelector('#graph').cytoscape.getElementById('shop/cart-api').data('state') === 'bad'`)
	m.ChangeSidecar(0, func(s *api.Sidecar) { s.Stream = nil })
	b.until(`document.querySelector('#state').textContent.includes('2 findings')`)
	if !value[bool](b, `window.same === true && document.title === '(2) patchbay'`) {
		t.Error("the page was loaded again, or its title says something else")
	}
	b.quiet()
}

// TestKeyboard: everything can be reached and done without a pointer.
func TestKeyboard(t *testing.T) {
	b := open(t, shown(t, sample.New(30, 60)), 1400, 860)
	b.until(`document.querySelector('#graph').cytoscape.nodes().length > 30`)
	press := func(keys string) { b.t.Helper(); b.do(chromedp.KeyEvent(keys)) }
	focused := func(id string) {
		t.Helper()
		b.until(`document.activeElement.id === '` + id + `'`)
	}
	press(kb.Tab)
	if text := value[string](b, `document.activeElement.outerHTML`); !strings.Contains(text, "Skip to the mesh") {
		t.Errorf("the first thing that Tab reaches is %q", text)
	}
	press("/")
	focused("search")
	b.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.value = ''`)) // the protocol types what the page has taken
	press("mail-api")
	b.until(`document.querySelector('#tab-services .n').textContent === '1'`)
	press(kb.Enter)
	b.until(`document.querySelector('#detail h2').textContent.includes('shop/mail-api')`)
	press(kb.Escape)
	b.until(`document.querySelector('#tab-services .n').textContent === '30'`)
	press(kb.Tab)
	focused("theme")
	press(kb.Enter)
	b.until(`document.documentElement.dataset.theme === 'dark'`)
	press(kb.Tab)
	focused("tab-map")
	press(kb.ArrowRight)
	focused("tab-services")
	press(kb.End)
	focused("tab-events")
	press(kb.Home)
	focused("tab-map")
	press(kb.Tab)
	focused("graph")
	press(kb.Escape)
	press(kb.ArrowRight)
	b.until(`document.querySelector('#detail h2').textContent.includes('shop/web')`)
	press(kb.ArrowRight)
	b.until(`document.querySelector('#detail h2').textContent.includes('-gateway')`)
	if said := value[string](b, `document.querySelector('#said').textContent`); !strings.Contains(said, "requests per second, 0 % failed") || !strings.HasPrefix(said, "shop/") {
		t.Errorf("a screen reader hears %q", said)
	}
	press(kb.ArrowDown)
	press(kb.Enter)
	focused("detail")
	press(kb.Tab)
	press(kb.Tab)
	press(kb.Enter) // its first task
	b.until(`document.querySelector('#detail h2').textContent.startsWith('sidecar ')`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('#tab-services').click(); document.querySelector('#services th button').focus()`))
	press(kb.Enter)
	b.until(`document.querySelector('#services th').getAttribute('aria-sort') === 'ascending' && document.querySelector('#services td').textContent === 'account-api.shop'`)
	press(kb.Enter)
	b.until(`document.querySelector('#services th').getAttribute('aria-sort') === 'descending'`)
	b.quiet()
}

// TestToken: off loopback the page asks for the token, says when it is wrong,
// and goes on with the right one; nothing comes from anywhere else.
func TestToken(t *testing.T) {
	inner := shown(t, sample.New(3, 3))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			page.Handler().ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "send the admin token", http.StatusUnauthorized)
			return
		}
		page.Local(func(ctx context.Context) (io.ReadCloser, error) { return opened(ctx, inner+"/events") }, nil).ServeHTTP(w, r)
	}))
	defer s.Close()
	defer s.CloseClientConnections() // its streams do not end
	b := open(t, s.URL, 900, 700)
	b.until(`!document.querySelector('#ask').hidden && document.querySelector('#refused').hidden`)
	b.do(chromedp.KeyEvent("wrong" + kb.Enter))
	b.until(`!document.querySelector('#refused').hidden`)
	b.do(chromedp.KeyEvent("secret" + kb.Enter))
	b.until(`document.querySelector('#state').textContent.includes('ready') && document.querySelector('#ask').hidden`)
	if from := value[[]string](b, `performance.getEntriesByType('resource').map((e) => new URL(e.name)).filter((u) => u.protocol !== 'data:' && u.origin !== location.origin).map(String)`); len(from) > 0 {
		t.Errorf("asked of others: %v", from)
	}
}

func opened(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// TestLocal: what is served on loopback can be had by its own name only, only
// by reading, and there is nothing but the page and its views.
func TestLocal(t *testing.T) {
	inner := shown(t, sample.New(3, 3))
	h := page.Local(
		func(ctx context.Context) (io.ReadCloser, error) { return opened(ctx, inner+"/events") },
		func(_ context.Context, name string) (any, error) { return map[string]string{"name": name}, nil })
	s := httptest.NewServer(h)
	defer s.Close()
	for _, c := range []struct {
		method, path, host string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, `<div id="graph"`},
		{"GET", "/vendor/LICENSE.dagre", "", 200, "Chris Pettitt"},
		{"GET", "/api/v1/service?name=x.shop", "", 200, `"x.shop"`},
		{"GET", "/api/v1/status", "", 404, ""},
		{"GET", "/metrics", "", 404, ""},
		{"POST", "/api/v1/rotate", "", 405, ""},
		{"GET", "/", "evil.example:80", 403, "localhost"},
		{"GET", "/events", "evil.example", 403, "localhost"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body) //nolint:errcheck // judged by what it has
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
			t.Errorf("%s %s for %q: %d %.80s", c.method, c.path, c.host, resp.StatusCode, body)
		}
	}
	if _, err := page.Listen(t.Context(), "0.0.0.0:0"); err == nil {
		t.Error("others may connect")
	}
}
