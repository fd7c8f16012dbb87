package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"patchbay/internal/devca"
)

// TestMain lets the scripts run this very program as "patchbay".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"patchbay": main})
}

// TestScripts runs testdata/script: the command line as its users see it.
// Besides testscript's own there are the commands below, and in the
// environment the free ports $XDS, $AGENT, $ADMIN, $REGISTRY, $CA and $SPARE.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"XDS", "AGENT", "ADMIN", "REGISTRY", "CA", "SPARE"} {
				e.Setenv(name, strconv.Itoa(freePort(t)))
			}
			e.Setenv("AWS_ACCESS_KEY_ID", "x")
			e.Setenv("AWS_SECRET_ACCESS_KEY", "y")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "readyz": readyz, "silent": silent, "other": other, "devca": runDevca, "configure": configure,
		},
	})
}

// exits CODE PROGRAM ARGS...: the program ends with exactly that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
	}
}

// readyz STATUS REGEXP: waits until /readyz at $ADMIN answers so.
func readyz(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	last := "no answer"
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://127.0.0.1:" + ts.Getenv("ADMIN") + "/readyz")
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if last = fmt.Sprintf("%d %s", resp.StatusCode, body); err == nil && strconv.Itoa(resp.StatusCode) == args[0] && want.Match(body) {
			return
		}
	}
	ts.Fatalf("/readyz never said %s %s, but at last:\n%s", args[0], args[1], last)
}

// configure FILE: adds the file "ports" to it, and puts in the environment.
func configure(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0])+ts.ReadFile("ports"), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// silent PORT: something listens there and never answers.
func silent(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// other PORT: something answers there that is no control plane.
func other(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"UnknownOperationException"}`)
	})}
	go srv.Serve(l)
	ts.Defer(func() { srv.Close() })
}

// devca DIR PORT: a real step-ca authority runs until the script ends.
func runDevca(ts *testscript.TestScript, _ bool, args []string) {
	o := devca.Options{Dir: ts.MkAbs(args[0]), Names: []string{"127.0.0.1"}, Listen: "127.0.0.1:" + args[1]}
	_, err := devca.Init(context.Background(), o)
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- devca.Run(ctx, o, slog.New(slog.DiscardHandler)) }()
	ts.Defer(func() {
		stop()
		<-done
	})
}
