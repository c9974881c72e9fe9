// Package discover finds targets in what Prometheus calls file_sd and http_sd: documents that list all there is,
// in files or behind a URL.
//
// What it guarantees:
//
//   - A document is the full list of its targets, and is taken as a whole or not at all. What Prometheus reads is
//     read, and what it refuses is refused. Beyond that an address must be host:port, and what Prometheus passes over
//     in silence is an error: keys that JSON repeats, bytes in it that are not UTF-8, and a second YAML document.
//   - While a document can't be read, its last good list stands, for however long. That holds for files that are not
//     there, garbage, and servers that fail or do not answer; for a directory in which no file matches, for so looks a
//     volume that is not mounted; and over a restart, if there is a directory for the state.
//   - A list that lost more than half of its targets is held: the last one stands until a second look finds it still
//     as short, at least 30 s later and for a URL at least one refresh. One that grew meanwhile is still being written,
//     and one that shrank by half again is another, so both are waited for anew. An empty list has lost all.
//   - A file that changed within the last two seconds may be half written. It is held, too, until it has been left alone
//     for as long; if it never is, for those 30 s.
//   - A file that is gone while others in its directory match has an empty list, and is forgotten when that is taken.
//     One that is named without a pattern is an error, because somebody wanted it to be there.
//
// A target is called by the label "agent" if its group has that label and no other target, else by its address.
// Within a source each address and each name are there once: of equal addresses the first counts, in the order of the
// files' names; a name that is taken gives way to the address. Both are told as a warning.
//
// There is no goroutine, timer or watcher here: whoever has a Set watches the files of its sources, it says when it wants to
// look, and its lists change only within Look. All its methods are safe for concurrent use.
package discover

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AgentLabel is the label by which a target that is alone in its group is called.
const AgentLabel = "agent"

// Target is one target of a list. It is shared, and must not be changed.
type Target struct {
	// Name is unique within the source.
	Name string `json:"name"`
	// Address is host:port, unique within the source.
	Address string `json:"address"`
	// Labels are those of the target's group, and where it is from: __meta_filepath is the file, __meta_url the URL
	// without its secrets.
	Labels map[string]string `json:"labels,omitempty"`
}

func (t Target) equal(other Target) bool {
	return t.Name == other.Name && t.Address == other.Address && maps.Equal(t.Labels, other.Labels)
}

// Source is where targets are listed: in files or behind a URL.
type Source struct {
	// ID names the source, also over restarts.
	ID string
	// Files are absolute paths that end in .json, .yml or .yaml. The file's name, not its directory, may be a pattern
	// as of filepath.Match.
	Files []string
	// URL is asked with GET, and answers with JSON. What of it may be secret, user, password and the values of its
	// query, is never told.
	URL string
	// Refresh is how often the source is looked at, at least every second; 0 means 5 minutes for files, which are
	// watched beside that, and one minute for a URL.
	Refresh time.Duration
	// Client asks the URL; nil means one as http.DefaultClient, with less room for headers. A timeout is set for each request: Refresh, at most 30 s.
	Client *http.Client
}

const (
	defaultFileRefresh = 5 * time.Minute
	defaultHTTPRefresh = time.Minute
	minRefresh         = time.Second
)

func (s *Source) isFile() bool { return s.URL == "" }

func (s *Source) refresh() time.Duration {
	switch {
	case s.Refresh > 0:
		return s.Refresh
	case s.isFile():
		return defaultFileRefresh
	}
	return defaultHTTPRefresh
}

// again is how long after the first look a second one counts.
func (s *Source) again() time.Duration {
	if s.isFile() {
		return holdFor
	}
	return max(holdFor, s.refresh())
}

// same tells whether two sources are looked at in the same way.
func (s *Source) same(other *Source) bool {
	return s.ID == other.ID && slices.Equal(s.Files, other.Files) && s.URL == other.URL &&
		s.Refresh == other.Refresh && s.Client == other.Client
}

// Validate returns what is wrong with the source, all of it.
func (s *Source) Validate() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if s.ID == "" {
		add("the source has no ID")
	}
	switch {
	case len(s.Files) == 0 && s.URL == "":
		add("the source has neither files nor a URL")
	case len(s.Files) > 0 && s.URL != "":
		add("the source has both files and a URL: make it two")
	}
	for _, path := range s.Files {
		if want := wantPattern(path); want != "" {
			add("found %q, %s", path, want)
		}
	}
	if s.URL != "" {
		if want := wantURL(s.URL); want != "" {
			add("found a URL %s", want)
		}
	}
	if s.Refresh != 0 && s.Refresh < minRefresh {
		add("found a refresh of %v, want at least %v, or 0 for the default", s.Refresh, minRefresh)
	}
	return errors.Join(wrong...)
}

// wantPattern says what a path ought to be, "" if it is. Like Prometheus, it takes patterns for the name only; those
// for directories would need all of them to be watched.
func wantPattern(path string) string {
	dir, name := filepath.Split(path)
	if !filepath.IsAbs(path) {
		return "want an absolute path: a relative one would be another file by where the poller is started"
	}
	if isPattern(dir) {
		return "want a pattern for the name of the file only, not for its directory"
	}
	if _, err := filepath.Match(name, ""); err != nil {
		return `whose pattern is not complete; want such as "*.json" or "[a-f]*.yaml"`
	}
	if _, ok := formatOf(path); !ok {
		return "want the name of a file that ends in .json, .yml or .yaml"
	}
	return ""
}

// wantURL says what a URL ought to be, without to repeat it.
func wantURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "that is none; want such as https://inventory.example/targets"
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "that has no host or is not of http or https; want such as https://inventory.example/targets"
	}
	return ""
}

func isPattern(path string) bool { return strings.ContainsAny(path, `*?[\`) }
