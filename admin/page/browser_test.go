package page_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"patchbay/admin/live"
	"patchbay/admin/page"
	"patchbay/admin/sample"
)

// limit bounds a whole conversation with a browser.
const limit = time.Minute

// program is Debian's Chromium.
const program = "chromium"

// browser is a Chromium with one tab, and what its console has complained of.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	trouble []string
}

// TestMain starts one Chromium, in which each test has its own tabs.
func TestMain(m *testing.M) {
	flag.Parse()
	var stop context.CancelFunc
	chromium, stop = chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(chromedp.ExecPath(program), chromedp.NoSandbox))
	if err := chromedp.Do(chromium); err != nil {
		fmt.Fprintf(os.Stderr, "start %s (make test-needs installs it): %v\n", program, err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

// chromium is the context of the one that all tests share.
var chromium context.Context

// open opens a tab on url, in a window of so many pixels.
func open(t testing.TB, url string, width, height int64, first ...chromedp.Action[chromedp.Void]) *browser {
	t.Helper()
	ctx, stop := chromedp.NewContext(chromium)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	b.do(append(first, chromedp.EmulateViewport(width, height), chromedp.Navigate(url))...)
	return b
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args) //nolint:errcheck // it came as JSON
			b.trouble = append(b.trouble, string(text))
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.trouble = append(b.trouble, text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.trouble = append(b.trouble, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// value is that of an expression in the page.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression of the page is true.
func (b *browser) until(expression string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(limit/3))); err != nil {
		b.t.Fatalf("never true: %s: %v\n%s", expression, err, value[string](b, `document.body.innerText`))
	}
}

// quiet fails if the console has complained.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.trouble) > 0 {
		b.t.Errorf("the console complains:\n%s", strings.Join(b.trouble, "\n"))
	}
}

// prefers is what the browser's owner likes: light or dark.
func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	})
}

// shown serves the page of a made-up mesh, which is watched as a real one is.
func shown(t testing.TB, m *sample.Mesh) string {
	t.Helper()
	w := live.New(m.Status, m.Traffic, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle("GET /events", w)
	mux.Handle("GET /", page.Handler())
	mux.HandleFunc("GET /api/v1/service", func(rw http.ResponseWriter, r *http.Request) {
		d, ok := m.Detail(r.URL.Query().Get("name"))
		if !ok {
			http.NotFound(rw, r)
			return
		}
		json.NewEncoder(rw).Encode(d)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		stop()
		<-done
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

var update = flag.Bool("update", false, "write docs/pictures")

// picture keeps what the window shows in docs/pictures, with -update.
func (b *browser) picture(name string) {
	b.t.Helper()
	if !*update {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile("../../docs/pictures/"+name+".png", png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
