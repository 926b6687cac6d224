package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes
	maxBody      = 4 << 10  // bytes that are read before the connection is closed
)

// http asks for the target; any 2xx in the end is healthy. A proxy that the
// manager's environment names is not used: the question is whether the daemon
// answers. Certificates are verified against the system's roots.
func (c *Check) http(ctx context.Context) error {
	ask, socket, err := parseHTTP(c.Target)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// What a redirect names beyond the socket's own host isn't behind it.
			if socket != "" && address == socketHost+":80" {
				return dial(ctx, "unix", socket)
			}
			return dial(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errRedirects
			}
			return nil
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ask, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "syspulse")
	res, err := client.Do(req)
	if err != nil {
		return c.explainHTTP(ctx, err, req.URL, socket)
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return errors.New("HTTP " + status(res))
	}
	// Read a little, so that a server isn't cut off in the middle of its answer.
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
		return c.explainHTTP(ctx, err, res.Request.URL, socket)
	}
	return nil
}

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// status is the code and its usual words: a server may send any, or none.
func status(res *http.Response) string {
	if text := http.StatusText(res.StatusCode); text != "" {
		return fmt.Sprintf("%d %s", res.StatusCode, text)
	}
	return fmt.Sprint(res.StatusCode)
}

func (c *Check) explainHTTP(ctx context.Context, err error, asked *url.URL, socket string) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		if u, e := url.Parse(wrapped.URL); e == nil && u.Host != "" {
			asked = u // after redirects
		}
		err = wrapped.Err
	}
	address := hostPort(asked)
	if socket != "" && address == socketHost+":80" {
		address = socket
	}
	var cert *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errRedirects):
		return err
	case errors.As(err, &cert):
		return fmt.Errorf("the certificate of %s is not valid: %w", address, cert.Err)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &notTLS):
		return fmt.Errorf("%s speaks no TLS; write http:// instead of https://", address)
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "readLoopPeekFail"):
		// The second is what the transport says if the answer comes before the question.
		return fmt.Errorf("%s answers, but not by HTTP", address)
	}
	return c.explain(ctx, err, "no answer", address)
}

// hostPort is whom a URL means, with the port that goes without saying.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// socketHost is the Host of requests over a Unix socket, as curl's
// --unix-socket has it when asked for http://localhost.
const socketHost = "localhost"

// parseHTTP reads a target: an http or https URL, or one of the ways in which
// HTTP over a Unix socket is written (see package spec).
func parseHTTP(target string) (ask, socket string, err error) {
	lower := strings.ToLower(target)
	for _, scheme := range []string{"unix:", "http://unix:"} {
		if strings.HasPrefix(lower, scheme) {
			path, uri, _ := strings.Cut(socketPath(target[len(scheme):]), ":")
			return overSocket(path, uri)
		}
	}
	if rest, ok := strings.CutPrefix(lower, "http+unix://"); ok {
		rest = target[len(target)-len(rest):]
		path, uri := rest, ""
		if i := strings.IndexAny(rest, "/?"); i > 0 {
			path, uri = rest[:i], rest[i:]
		} else if i == 0 {
			// http+unix:///path: nothing tells a path in it from a URI.
			return overSocket(rest, "")
		}
		if path, err = url.PathUnescape(path); err != nil {
			return "", "", fmt.Errorf("target %q: %w", target, err)
		}
		return overSocket(path, uri)
	}
	return target, "", nil
}

func overSocket(path, uri string) (ask, socket string, err error) {
	if path == "" {
		return "", "", errors.New("the target names no socket")
	}
	if !strings.HasPrefix(uri, "/") {
		uri = "/" + uri
	}
	return "http://" + socketHost + uri, path, nil
}
