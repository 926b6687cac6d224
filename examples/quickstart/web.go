package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// web serves a page that counts its visits.
func web(ctx context.Context) error {
	addr := setting("ADDR", defaultAddr)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("can't listen: %w (set ADDR to another one in the .sys file)", err)
	}
	fmt.Printf("listening on http://%s\n", l.Addr())

	srv := &http.Server{Handler: logged(pages()), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	fmt.Println("stopping: no new requests, those under way are finished")
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	fmt.Println("bye")
	return nil
}

func pages() http.Handler {
	var visits atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello. This is visit %d.\n", visits.Add(1))
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// logged writes a line for each request.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		// Quoted, so that a client can't write lines of its own.
		fmt.Printf("%s %q %d in %s\n", r.Method, r.URL.Path, rec.status, time.Since(begun).Round(time.Microsecond))
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
