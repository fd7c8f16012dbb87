package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchbay/bench"
)

func job(name string, run func(context.Context) error) bench.Job {
	return bench.Job{
		Name: name, Title: "Part " + name, Limit: time.Minute, Goals: func(p *bench.Part) { p.AtMost(1, "ms", "a goal of "+name, 2, true) },
		Run: func(ctx context.Context, _ bench.Options, p *bench.Part) error {
			p.Add("scenario", "ours", "cost", "ms", 2)
			return run(ctx)
		},
	}
}

func TestOnePartDoesNotTakeTheOthersAlong(t *testing.T) {
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, bench.MarkdownFile), page, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := job("slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	slow.Limit = time.Millisecond
	var out bytes.Buffer
	err = all(t.Context(), bench.Options{}, []bench.Job{
		slow, job("broken", func(context.Context) error { return errors.New("no Envoy") }), job("good", func(context.Context) error { return nil }),
	}, &out, dir)
	if err == nil || !strings.Contains(err.Error(), "broken: no Envoy") {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, bench.MarkdownFile))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"Cut off after 1ms": true, "a goal of slow": true, "a goal of good": true, "a goal of broken": false} {
		if strings.Contains(string(b), text) != want {
			t.Errorf("the page has %q: %v", text, !want)
		}
	}
	if !strings.Contains(out.String(), "a goal of broken") {
		t.Error("what a broken part has found is not printed")
	}
}

func TestStoppedWritesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err := all(ctx, bench.Options{}, []bench.Job{job("a", func(context.Context) error { cancel(); return ctx.Err() })}, &bytes.Buffer{}, dir)
	if files, _ := os.ReadDir(dir); err == nil || len(files) > 0 {
		t.Errorf("%v; %d files", err, len(files))
	}
}

func TestAnUnknownPart(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"--only", "pusch"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "push, cost") {
		t.Errorf("%d: %s", code, errs.String())
	}
}
