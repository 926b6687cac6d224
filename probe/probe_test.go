package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

func run(t *testing.T, kind, target string) Result {
	t.Helper()
	c := Check{Type: kind, Target: target, Timeout: patience}
	return c.Run(t.Context())
}

// expect compares what a check says; "" is healthy.
func expect(t *testing.T, kind, target, want string) {
	t.Helper()
	r := run(t, kind, target)
	if r.OK != (want == "") || !strings.Contains(r.Error, want) || want == "" && r.Error != "" || r.Lacking {
		t.Errorf("%s %s: %+v, want %q", kind, target, r, want)
	}
	if r.At.IsZero() || r.Took <= 0 {
		t.Errorf("%s %s: at %v, took %v", kind, target, r.At, r.Took)
	}
}

// closed is a port where nobody listens.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// silent takes connections and never says a word.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/odd", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(599) })
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusMovedPermanently))
	mux.Handle("/moved-down", http.RedirectHandler("/down", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	return mux
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(handler())
	defer s.Close()
	s.Config.ErrorLog = nil
	address := strings.TrimPrefix(s.URL, "http://")
	expect(t, "http", s.URL+"/ok", "")
	expect(t, "http", s.URL+"/empty", "")
	expect(t, "http", s.URL+"/endless", "")
	expect(t, "http", s.URL+"/moved", "")
	expect(t, "http", s.URL+"/down", "HTTP 503 Service Unavailable")
	expect(t, "http", s.URL+"/odd", "HTTP 599")
	expect(t, "http", s.URL+"/nowhere", "HTTP 404 Not Found")
	expect(t, "http", s.URL+"/moved-down", "HTTP 503 Service Unavailable")
	expect(t, "http", s.URL+"/loop", "more than 5 redirects")
	expect(t, "http", s.URL+"/cut", "the connection to "+address+" was closed without an answer")
	expect(t, "http", strings.Replace(s.URL, "http:", "https:", 1), address+" speaks no TLS")

	nobody := closed(t)
	expect(t, "http", "http://"+nobody+"/", "connection refused on "+nobody)
	t.Setenv("HTTP_PROXY", "http://"+nobody)
	t.Setenv("http_proxy", "http://"+nobody)
	expect(t, "http", s.URL+"/ok", "")
}

func TestHTTPSVerifies(t *testing.T) {
	s := httptest.NewTLSServer(handler())
	defer s.Close()
	expect(t, "http", s.URL+"/ok", "the certificate of "+strings.TrimPrefix(s.URL, "https://")+" is not valid: ")
}

func TestNoHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "-ERR unknown command\r\n\r\n")
			c.Close()
		}
	}()
	expect(t, "http", "http://"+l.Addr().String(), l.Addr().String()+" answers, but not by HTTP")
}

func TestHTTPOverSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {})
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" && r.URL.RawQuery != "deep=1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.Handle("/away", http.RedirectHandler("http://"+closed(t)+"/health", http.StatusFound))
	mux.Handle("/stay", http.RedirectHandler("/health", http.StatusFound))
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	defer s.Close()

	escaped := strings.ReplaceAll(path, "/", "%2F")
	for _, target := range []string{
		"unix:" + path, "unix://" + path, "unix:" + path + ":/health", "unix:" + path + ":/health?deep=1", "UNIX:" + path,
		"http://unix:" + path + ":/health", "http://unix:" + path,
		"http+unix://" + escaped + "/health?deep=1", "http+unix://" + escaped, "HTTP+unix://" + escaped + "/health",
		"unix:" + path + ":/stay",
	} {
		expect(t, "http", target, "")
	}
	expect(t, "http", "unix:"+path+":/nowhere", "HTTP 404 Not Found")
	expect(t, "http", "unix:"+path+":/away", "connection refused on 127.0.0.1:")
	expect(t, "http", "unix:"+path+".not", "no socket at "+path+".not")
	expect(t, "tcp", "unix:"+path, "")
	expect(t, "tcp", "unix:"+path+".not", "no socket at "+path+".not")
}

func TestTCP(t *testing.T) {
	expect(t, "tcp", silent(t), "")
	nobody := closed(t)
	expect(t, "tcp", nobody, "connection refused on "+nobody)
	_, port, _ := net.SplitHostPort(nobody)
	expect(t, "tcp", "localhost:"+port, "connection refused on localhost:"+port)
}

func TestTimeout(t *testing.T) {
	c := Check{Type: "http", Target: "http://" + silent(t), Timeout: 50 * time.Millisecond}
	if r := c.Run(t.Context()); r.OK || r.Error != "no answer within 50ms" || r.Took < c.Timeout {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Timeout = patience
	if r := c.Run(ctx); r.OK || r.Error != context.Canceled.Error() {
		t.Errorf("%+v", r)
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\t c\x00":           "a b c\x00",
		"\xff":                   "�",
		strings.Repeat("ä", 300): strings.Repeat("ä", 150) + "…",
	} {
		if got := line(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
