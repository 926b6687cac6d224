package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/api"
)

// reply writes v as the answer.
func (s *Server) reply(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("can't encode the answer: %w", err)
	}
	return s.write(w, http.StatusOK, "application/json", append(b, '\n'))
}

func (s *Server) write(w http.ResponseWriter, status int, contentType string, body []byte) error {
	c := http.NewResponseController(w)
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer c.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error is a client that is gone: nobody is left to tell
	return nil
}

// fail answers with the problem document of err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	// A client that is gone doesn't read it. One that only closed its side for
	// writing looks the same and does, and an empty answer would tell it that
	// all went well.
	p := s.problem(r, err)
	b, _ := json.Marshal(p)
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the rest of a refused body is nobody's next request
	}
	s.write(w, p.Status, "application/problem+json", append(b, '\n'))
}

func (s *Server) problem(r *http.Request, err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	code := api.CodeOf(err)
	if errors.Is(err, context.Canceled) {
		if r.Context().Err() != nil {
			return api.Invalid("the client closed its side of the connection before it had the answer")
		}
		code = api.CodeShuttingDown
	}
	s.log.Debug("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	return api.NewError(code, "%s", err)
}

// body decodes the request's body into v: one JSON object without unknown
// keys. With optional, an empty body leaves v as it is.
func body(w http.ResponseWriter, r *http.Request, v any, optional bool) error {
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	large := len(b) > maxBody
	if large {
		// A client that still writes would see its connection break instead
		// of the answer.
		io.CopyN(io.Discard, r.Body, maxDrain)
	}
	c.SetReadDeadline(time.Time{})
	switch {
	case large:
		return api.NewError(api.CodeTooLarge, "the request's body is larger than %d MiB; send it in parts", maxBody>>20)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return api.Invalid(fmt.Sprintf("the request's body ends after %d bytes, before what its Content-Length promised", len(b)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return api.Invalid(fmt.Sprintf("the request's body didn't arrive within %v", bodyTimeout))
	case err != nil:
		return api.Invalid("can't read the request's body: " + err.Error())
	}
	if len(bytes.TrimSpace(b)) == 0 {
		if optional {
			return nil
		}
		return api.Invalid("the request has no body; it takes a JSON object, see GET /v1/openapi.yaml")
	}
	if err := decode(b, v); err != nil {
		return api.Invalid("the request's body: " + err.Error())
	}
	return nil
}

// decode is strict, and says where it fails.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		if _, err := d.Token(); err != io.EOF {
			return fmt.Errorf("%s: something follows the JSON value; send one", position(b, d.InputOffset()))
		}
		if t := bytes.TrimSpace(b); t[0] != '{' { // null decodes into anything
			return errors.New("it must be a JSON object")
		}
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the JSON ends in the middle; it was cut off", position(b, int64(len(b))))
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %s", position(b, syntax.Offset), strings.TrimPrefix(syntax.Error(), "json: "))
	case errors.As(err, &typ):
		what := "it"
		if typ.Field != "" {
			what = fieldPath(typ.Field)
		}
		return fmt.Errorf("%s: %s must be %s, not %s", position(b, typ.Offset), what, kind(typ), article(typ.Value))
	}
	return fmt.Errorf("%s: %s", position(b, d.InputOffset()), strings.TrimPrefix(err.Error(), "json: "))
}

// fieldPath is a key's path without the Go types that are embedded on the way
// to it: those are the parts that no key of ours begins with.
func fieldPath(path string) string {
	var keys []string
	for part := range strings.SplitSeq(path, ".") {
		if part != "" && (part[0] < 'A' || part[0] > 'Z') && !strings.HasPrefix(part, "wire") {
			keys = append(keys, part)
		}
	}
	return strings.Join(keys, ".")
}

// kind says in JSON's words what a Go type takes.
func kind(e *json.UnmarshalTypeError) string {
	switch k := e.Type.Kind().String(); {
	case k == "slice" || k == "array":
		return "an array"
	case k == "struct" || k == "map":
		return "an object"
	case k == "bool":
		return "true or false"
	case strings.HasPrefix(k, "int") || strings.HasPrefix(k, "uint"):
		return "an integer"
	case strings.HasPrefix(k, "float"):
		return "a number"
	default:
		return "a string"
	}
}

func article(value string) string {
	switch {
	case value == "bool":
		return "true or false"
	case strings.HasPrefix(value, "number "):
		return strings.TrimPrefix(value, "number ")
	case strings.HasPrefix(value, "a"), strings.HasPrefix(value, "o"):
		return "an " + value
	}
	return "a " + value
}

// position is the line and column of an offset.
func position(b []byte, offset int64) string {
	before := b[:min(max(offset, 0), int64(len(b)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}
