package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// The manager's own log in the background: this many old ones are kept, each
// up to this many megabytes.
const (
	logFiles     = 3
	logMegabytes = 10
)

func (a *app) level() slog.Level {
	switch {
	case a.verbose:
		return slog.LevelDebug
	case a.quiet:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// foregroundLog is the log of a manager in a shell or under a service
// manager: for people on a terminal, else structured.
func (a *app) foregroundLog() *slog.Logger {
	o := &slog.HandlerOptions{Level: a.level()}
	switch {
	case a.json:
		return slog.New(slog.NewJSONHandler(a.stderr, o))
	case a.errTTY:
		return slog.New(&humanLog{out: &lockedWriter{w: a.stderr}, level: a.level(), paint: a.paintErr})
	}
	return slog.New(slog.NewTextHandler(a.stderr, o))
}

// fileLog is <data_dir>/manager.log, rotated, a JSON object per line. The
// directory may not exist yet.
func (a *app) fileLog(dataDir string) (*slog.Logger, io.Closer) {
	f := &lumberjack.Logger{Filename: managerLog(dataDir), MaxSize: logMegabytes, MaxBackups: logFiles}
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: a.level()})), f
}

func managerLog(dataDir string) string { return filepath.Join(dataDir, "manager.log") }

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// humanLog prints records as lines for people: time, message, attributes.
type humanLog struct {
	out    io.Writer
	level  slog.Level
	paint  func(color, s string) string
	prefix string // of groups
	attrs  string
}

func (h *humanLog) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *humanLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	t := r.Time
	if t.IsZero() {
		t = time.Now()
	}
	b.WriteString(h.paint(dim, t.Local().Format("15:04:05")) + " ")
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString(h.paint(red, "error:") + " ")
	case r.Level >= slog.LevelWarn:
		b.WriteString(h.paint(yellow, "warning:") + " ")
	case r.Level < slog.LevelInfo:
		b.WriteString("debug: ")
	}
	b.WriteString(clean(r.Message))
	var attrs strings.Builder
	attrs.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&attrs, h.prefix, a)
		return true
	})
	b.WriteString(h.paint(dim, attrs.String()))
	b.WriteByte('\n')
	_, err := io.WriteString(h.out, b.String())
	return err
}

func writeAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, sub := range v.Group() {
			writeAttr(b, prefix+a.Key+".", sub)
		}
		return
	}
	text := v.String()
	if strings.Contains(text, "\n") { // a stack trace
		fmt.Fprintf(b, " %s%s:\n%s", prefix, a.Key, cleanText(strings.TrimRight(text, "\n")))
		return
	}
	text = clean(text)
	if text == "" || strings.ContainsAny(text, " \"=") {
		text = fmt.Sprintf("%q", text)
	}
	fmt.Fprintf(b, " %s%s=%s", prefix, a.Key, text)
}

func (h *humanLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		writeAttr(&b, h.prefix, a)
	}
	c := *h
	c.attrs += b.String()
	return &c
}

func (h *humanLog) WithGroup(name string) slog.Handler {
	c := *h
	if name != "" {
		c.prefix += name + "."
	}
	return &c
}
