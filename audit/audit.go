// Package audit writes who got which certificate, and who was refused, into a
// file that shows whether somebody changed it: JSON lines, each with the hash
// of the one before.
//
// It owns the form of the file, and how to check it. It must not know keys,
// tokens or requests: an [Event] has no place for them.
//
// Start reading at [Log.Record], then [Verify].
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// File is the audit log of the control plane whose data directory this is.
func File(data string) string { return filepath.Join(data, "audit.log") }

// Kinds of events.
const (
	CertificateIssued  = "certificate.issued"  // of a service
	CertificateRenewed = "certificate.renewed" // the same, not its first
	CertificateRefused = "certificate.refused" // by the issuer, or because its answer was not what was asked for
	NodeEnrolled       = "node.enrolled"
	NodeRenewed        = "node.renewed"
	NodeRefused        = "node.refused" // an enrolment, a renewal, or a connection
	Registered         = "instance.registered"
	Deregistered       = "instance.deregistered"
	RegisterRefused    = "instance.refused"
	AdminCall          = "admin.call"
	logOpened          = "log.opened"
	logTorn            = "log.torn"   // the end of the file was half a line, as a crash leaves it
	logBroken          = "log.broken" // the file was not what was written last
)

// Event is one line. What is empty is left out. Strings are cut at 1,000
// bytes: strangers choose some of them.
type Event struct {
	Kind      string    `json:"kind"`
	Actor     string    `json:"actor,omitempty"` // the authenticated node, "control plane", or "operator"
	Peer      string    `json:"peer,omitempty"`  // IP address
	Subject   string    `json:"subject,omitempty"`
	Method    string    `json:"method,omitempty"` // "join", "iam", "renew"; of an admin call its path
	Issuer    string    `json:"issuer,omitempty"`
	SANs      []string  `json:"sans,omitempty"`
	Serial    string    `json:"serial,omitempty"` // hexadecimal
	SPKI      string    `json:"spki,omitempty"`   // SHA-256 of the public key's SubjectPublicKeyInfo, hexadecimal
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	Decision  string    `json:"decision,omitempty"` // "allowed" or "denied"
	Reason    string    `json:"reason,omitempty"`
}

// Of is an event about a certificate that was given: its names, serial, key
// and life.
func Of(kind string, c *x509.Certificate) Event {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	e := Event{
		Kind: kind, SANs: slices.Clone(c.DNSNames), Serial: c.SerialNumber.Text(16), SPKI: hex.EncodeToString(sum[:]),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Decision: Allowed,
	}
	for _, u := range c.URIs {
		e.SANs = append(e.SANs, u.String())
	}
	return e
}

// Allowed and Denied are decisions.
const (
	Allowed = "allowed"
	Denied  = "denied"
)

// line is an event as it is written; its hash follows it.
type line struct {
	Seq  uint64    `json:"seq"` // from 1
	Time time.Time `json:"time"`
	Event
	Previous string `json:"prev"` // hash of the line before; of the first: 64 zeros
}

// head is the last line that is known to be written.
type head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

var zeros = strings.Repeat("0", 2*sha256.Size)

// headSuffix names the file beside the log that holds its head.
const headSuffix = ".head"

// flushEvery bounds what a crash of the machine may lose.
const flushEvery = 200 * time.Millisecond

// Log is an open audit log. It is safe for concurrent use. A nil Log records
// nothing.
type Log struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File
	end     int64 // of the last whole line
	head    head
	dirty   bool
	lost    uint64
	unsaved error // the last flush's
}

// Open opens the log at path, or makes it (mode 0600), for one process. Half a
// line at its end, as a crash leaves it, is cut off, and a line says so; a file
// that is not what was written last is gone on with, and a line says that. A
// full disk is no error: nobody waits for this log.
func Open(path string, log *slog.Logger) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{path: path, log: log, file: f, head: head{Hash: zeros}}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: another process writes it: %w", path, err), f.Close())
	}
	events, err := l.recover()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", path, err), f.Close())
	}
	for _, e := range append(events, Event{Kind: logOpened, Actor: "control plane"}) {
		l.Record(e)
	}
	l.flush() // from now on there is a head
	return l, nil
}

// recover finds the end of the log and what is to be said about it.
func (l *Log) recover() ([]Event, error) {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var events []Event
	var last []byte
	torn, end, err := lines(l.file, func(_ int, text []byte) { last = append(last[:0], text...) })
	if err != nil {
		return nil, err
	}
	l.end = end
	if len(torn) > 0 {
		sum := sha256.Sum256(torn)
		events = append(events, Event{Kind: logTorn, Reason: fmt.Sprintf("%d bytes of an unfinished line were cut off, SHA-256 %x", len(torn), sum)})
		if err := l.file.Truncate(end); err != nil {
			return nil, err
		}
	}
	known, there, err := readHead(l.path)
	if err != nil {
		events = append(events, Event{Kind: logBroken, Reason: err.Error()})
	}
	if len(last) > 0 {
		v, hash, err := split(last)
		if err != nil {
			events = append(events, Event{Kind: logBroken, Reason: "the last line can't be read: " + err.Error()})
			l.head = head{known.Seq, hashOf(last)}
		} else {
			l.head = head{v.Seq, hash}
		}
	}
	if there && (l.head.Seq < known.Seq || l.head.Seq == known.Seq && l.head.Hash != known.Hash) {
		events = append(events, Event{Kind: logBroken, Reason: fmt.Sprintf("the log ended with line %d, hash %s; now it ends with line %d, hash %s", known.Seq, known.Hash, l.head.Seq, l.head.Hash)})
		l.head.Seq = max(l.head.Seq, known.Seq)
	}
	for _, e := range events {
		l.log.Warn("audit log", "file", l.path, "event", e.Kind, "reason", e.Reason)
	}
	return events, nil
}

// Record appends an event. It never fails its caller: what can't be written is
// logged as it is, and counted.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	e.clip()
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := json.Marshal(line{Seq: l.head.Seq + 1, Time: time.Now().UTC(), Event: e, Previous: l.head.Hash})
	if err == nil {
		hash := hashOf(text)
		whole := fmt.Appendf(text[:len(text)-1:len(text)-1], `,"hash":%q}`+"\n", hash)
		if err = l.write(whole); err == nil {
			l.head = head{l.head.Seq + 1, hash}
			l.dirty = true
		}
	}
	if err != nil {
		l.lost++
		l.log.Error("audit event is not written", "file", l.path, "error", err, "line", string(text))
	}
}

// write appends a whole line, or nothing.
func (l *Log) write(whole []byte) error {
	n, err := l.file.WriteAt(whole, l.end)
	if err != nil {
		if n > 0 { // a full disk: half a line must not stay before the next
			err = errors.Join(err, l.file.Truncate(l.end))
		}
		return err
	}
	l.end += int64(n)
	return nil
}

// clip bounds what strangers may write.
func (e *Event) clip() {
	const most = 1000
	cut := func(s *string) {
		if len(*s) > most {
			*s = strings.ToValidUTF8((*s)[:most], "") + "…"
		}
	}
	for _, s := range []*string{&e.Kind, &e.Actor, &e.Peer, &e.Subject, &e.Method, &e.Issuer, &e.Serial, &e.SPKI, &e.Reason} {
		cut(s)
	}
	for i := range e.SANs {
		cut(&e.SANs[i])
	}
}

// Run writes the log through to the disk, several times a second, until ctx
// ends, then closes it.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.flush()
		case <-ctx.Done():
			l.Close()
			return ctx.Err()
		}
	}
}

// flush makes what was recorded survive a crash of the machine. The head comes
// after the lines: it never names one that is not there.
func (l *Log) flush() {
	l.mu.Lock()
	now, dirty := l.head, l.dirty
	l.dirty = false
	l.mu.Unlock()
	if !dirty {
		return
	}
	err := errors.Join(l.file.Sync(), writeHead(l.path, now))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, os.ErrClosed):
		return
	case err != nil && l.unsaved == nil:
		l.log.Error("audit log is not on the disk yet", "file", l.path, "error", err)
	case err == nil && l.unsaved != nil:
		l.log.Info("audit log is on the disk again", "file", l.path)
	}
	l.unsaved = err
	l.dirty = l.dirty || err != nil
}

// Close writes what is left. Later events are logged as not written.
func (l *Log) Close() error {
	l.flush()
	return l.file.Close()
}

// Status is where the log stands. Keep Hash elsewhere to prove, with
// [Verify], that everything up to Seq is as it was.
type Status struct {
	File string
	Seq  uint64
	Hash string
	Lost uint64 // events that could not be written, by this process
}

// Status is safe to be called at any time.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{l.path, l.head.Seq, l.head.Hash, l.lost}
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func readHead(path string) (h head, there bool, err error) {
	text, err := os.ReadFile(path + headSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return head{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(text), &h)
	}
	if err != nil {
		return head{}, false, fmt.Errorf("the file of its head: %w", err)
	}
	return h, true, nil
}

func writeHead(path string, h head) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(path), ".head-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // gone already when all went well
	_, err = t.Write(append(text, '\n'))
	if err := errors.Join(err, t.Sync(), t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), path+headSuffix)
}
