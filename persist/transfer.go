package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// documentFormat is the version of Document.
const documentFormat = 1

// Document is a set-up that moves to another machine: what `state export`
// prints and `state import` reads, as JSON.
type Document struct {
	Format     int          `json:"format"`  // 1
	Version    string       `json:"version"` // of the build that wrote it
	ExportedAt time.Time    `json:"exported_at"`
	Daemons    []Stored     `json:"daemons"` // sorted by name
	Groups     []spec.Group `json:"groups,omitempty"`
}

// NewDocument makes the document of daemons. Those without a registration are
// left out.
func NewDocument(version string, now time.Time, daemons []Daemon, groups []spec.Group) *Document {
	doc := &Document{Format: documentFormat, Version: version, ExportedAt: now, Daemons: []Stored{}, Groups: groups}
	for _, d := range daemons {
		if d.Registration == nil || d.Registration.Spec == nil {
			continue
		}
		doc.Daemons = append(doc.Daemons, Stored{
			Spec:   d.Registration.Spec,
			Source: d.Registration.Source,
			Wanted: d.Record.Wanted,
			Ended:  d.Record.Ended,
		})
	}
	slices.SortFunc(doc.Daemons, func(a, b Stored) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return doc
}

// Export writes the document.
func (doc *Document) Export(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// Checks are what Import has daemons and groups read by, from their JSON:
// spec.DecodeDaemon and spec.DecodeGroup.
type Checks struct {
	Daemon func([]byte) (*spec.Daemon, error)
	Group  func([]byte) (*spec.Group, error)
}

// Import reads a document and trusts nothing in it. The error tells every
// daemon and group that is wrong.
func Import(r io.Reader, checks Checks) (*Document, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("the export can't be read: %w", err)
	}
	var head struct {
		Format  *int   `json:"format"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("this is no export of syspulse: %w", located(data, err))
	}
	switch {
	case head.Format == nil:
		return nil, errors.New("this is no export of syspulse: it has no \"format\"; make one with `syspulse state export`")
	case *head.Format > documentFormat:
		return nil, fmt.Errorf("the export is of format %d, written by syspulse %s; this build reads formats up to %d: import it with that version or a later one", *head.Format, orUnknown(head.Version), documentFormat)
	case *head.Format < 1:
		return nil, fmt.Errorf("the export is of format %d, which there never was", *head.Format)
	}
	var raw struct {
		Format     int       `json:"format"`
		Version    string    `json:"version"`
		ExportedAt time.Time `json:"exported_at"`
		Daemons    []struct {
			Spec   json.RawMessage    `json:"spec"`
			Source string             `json:"source"`
			Wanted supervision.Wanted `json:"wanted"`
			Ended  bool               `json:"ended"`
		} `json:"daemons"`
		Groups []json.RawMessage `json:"groups"`
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("the export can't be read: %w", located(data, err))
	}
	doc := &Document{Format: raw.Format, Version: raw.Version, ExportedAt: raw.ExportedAt}
	var errs []error
	seen := make(map[string]int)
	for i, d := range raw.Daemons {
		at := fmt.Sprintf("daemons[%d]", i)
		if len(d.Spec) == 0 {
			errs = append(errs, fmt.Errorf("%s has no \"spec\"", at))
			continue
		}
		sp, err := checks.Daemon(d.Spec)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
			continue
		}
		if first, twice := seen[sp.Name]; twice {
			errs = append(errs, fmt.Errorf("%s: %q is there twice; the first is daemons[%d]", at, sp.Name, first))
			continue
		}
		seen[sp.Name] = i
		switch d.Wanted {
		case supervision.WantRunning, supervision.WantStopped:
		case "":
			d.Wanted = supervision.WantStopped
		default:
			errs = append(errs, fmt.Errorf("%s (%s): \"wanted\" is %q, must be \"running\" or \"stopped\"", at, sp.Name, d.Wanted))
			continue
		}
		doc.Daemons = append(doc.Daemons, Stored{Spec: sp, Source: d.Source, Wanted: d.Wanted, Ended: d.Ended})
	}
	for i, b := range raw.Groups {
		g, err := checks.Group(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("groups[%d]: %w", i, err))
			continue
		}
		doc.Groups = append(doc.Groups, *g)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return doc, nil
}

// located adds line and column to an error of encoding/json.
func located(data []byte, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	default:
		return err
	}
	before := string(data[:min(max(offset-1, 0), int64(len(data)))])
	line := 1 + strings.Count(before, "\n")
	column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}
