package spec

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// targetChecks says for each type of check that has a target what it must be.
var targetChecks = map[string]struct {
	want  string
	check func(target string) (msg, hint string)
}{
	"http":    {`write a URL, such as target = "http://localhost:8080/health"`, checkHTTP},
	"tcp":     {`write host and port, such as target = "localhost:5432"`, checkTCP},
	"command": {`write a shell command, such as target = "test -f ready"`, checkShell},
}

func checkShell(target string) (msg, hint string) {
	if strings.TrimSpace(target) == "" {
		return "is empty", ""
	}
	return "", ""
}

// checkHTTP takes http and https URLs, and the ways in which HTTP over a Unix
// socket is written: unix:/path, unix:/path:/uri, http://unix:/path:/uri and
// http+unix://%2Fpath/uri.
func checkHTTP(target string) (msg, hint string) {
	if target == "" {
		return "is empty", ""
	}
	if strings.ContainsAny(target, " \t\r\n") {
		return "holds white space", `in a URL a space is written %20`
	}
	lower := strings.ToLower(target)
	if strings.HasPrefix(lower, "unix:") {
		return checkSocket(target[len("unix:"):])
	}
	if strings.HasPrefix(lower, "http://unix:") {
		return checkSocket(target[len("http://unix:"):])
	}
	u, err := url.Parse(target)
	if err != nil {
		if msg, hint := checkTCP(strings.SplitN(target, "/", 2)[0]); msg == "" && hint == "" {
			return "has no http:// in front", fmt.Sprintf("write %q", "http://"+target)
		}
		return "is not a URL", ""
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		if u.Hostname() == "" {
			return "has no host", ""
		}
		if p := u.Port(); p != "" {
			if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
				return fmt.Sprintf("has the port %s", p), "ports are from 1 to 65535"
			}
		}
		return "", ""
	case "http+unix":
		path, err := url.PathUnescape(u.Host)
		if err != nil {
			path = u.Host
		}
		return checkSocket(path)
	case "":
		if strings.HasPrefix(target, "/") {
			return "is a path", `write "http://localhost` + target + `", or "unix:` + target + `" if it is a socket`
		}
		return "has no http:// in front", fmt.Sprintf("write %q", "http://"+target)
	}
	if !strings.Contains(target, "://") {
		return "has no http:// in front", fmt.Sprintf("write %q", "http://"+target)
	}
	return fmt.Sprintf("has the scheme %s", quote(u.Scheme)), "only http and https can be asked"
}

func checkSocket(path string) (msg, hint string) {
	path = strings.TrimPrefix(path, "//")
	if path == "" {
		return "names no socket", `write "unix:/path/to/socket"`
	}
	return "", ""
}

// checkTCP takes host:port, and unix:/path.
func checkTCP(target string) (msg, hint string) {
	if target == "" {
		return "is empty", ""
	}
	if rest, ok := strings.CutPrefix(target, "unix:"); ok {
		return checkSocket(rest)
	}
	if scheme, rest, ok := strings.Cut(target, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		if msg, _ := checkTCP(rest); msg == "" {
			return "is a URL", fmt.Sprintf("write %q", rest)
		}
		return "is a URL with the scheme " + quote(scheme), ""
	}
	if _, err := strconv.ParseUint(target, 10, 16); err == nil {
		return "is a port without a host", fmt.Sprintf("write %q", "localhost:"+target)
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		if ip := net.ParseIP(target); ip != nil && strings.Contains(target, ":") {
			return "has no port", fmt.Sprintf("write %q", "["+target+"]:5432")
		}
		if strings.Count(target, ":") > 1 {
			return "is not host:port", `an IPv6 address is written "[::1]:5432"`
		}
		return "has no port", fmt.Sprintf("write %q", target+":5432")
	}
	if strings.ContainsAny(host, " \t\r\n/") {
		return "is not host:port", ""
	}
	if port == "" {
		return "has no port", fmt.Sprintf("write %q", target+"5432")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("has the port %s", quote(port)), "ports are numbers from 1 to 65535"
	}
	return "", ""
}
