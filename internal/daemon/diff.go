package daemon

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"path/filepath"
	"strings"

	"github.com/serviceradar/poller/config"
)

// DiffPath is where the admin server takes a configuration and answers with what a reload of it would change.
const DiffPath = "/config/diff"

// maxDiff bounds a configuration that is sent, in bytes. Packed, it is a fraction of what may be in files.
const maxDiff = 32 << 20

// insideDir and outsideDir are where in the archive the files are that lie below the main file's directory, by their paths
// from there, and all others, by their whole paths.
const (
	insideDir  = "inside"
	outsideDir = "outside"
)

// Difference is what a reload would come to.
type Difference struct {
	// Problems are why it would be refused; then nothing would change.
	Problems []string `json:"problems,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Text says what would change; secrets in URLs are masked.
	Text string `json:"text,omitempty"`
}

// PackConfig returns the files of a configuration, which loaded is of, as DiffPath takes them: the main file with its name, to be
// looked at as if it, and all that lies below its directory, were in place of the running poller's.
func PackConfig(loaded *config.Loaded, read func(name string) ([]byte, error)) ([]byte, error) {
	var packed bytes.Buffer
	archive := zip.NewWriter(&packed)
	dir := filepath.Dir(loaded.Files.Config[0])
	for i, name := range loaded.Files.Config {
		in := path.Join(outsideDir, filepath.ToSlash(strings.TrimPrefix(name, filepath.VolumeName(name))))
		if inside, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(inside) {
			in = path.Join(insideDir, filepath.ToSlash(inside))
		}
		if i == 0 {
			in = mainEntry
		}
		text, err := read(name)
		if err != nil {
			return nil, err
		}
		w, err := archive.Create(in)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// mainEntry is the main file in the archive, whatever its name is.
const mainEntry = "main"

// unpacked is an archive as the file system in which the main file is at main.
type unpacked struct {
	archive fs.FS
	main    string
}

// Open is part of fs.FS; names are absolute, without their first slash.
func (u unpacked) Open(name string) (fs.File, error) {
	dir, err := path.Dir(u.main), error(nil)
	switch inside, below := strings.CutPrefix(name, dir+"/"); {
	case name == u.main:
		name = mainEntry
	case name == dir:
		name = insideDir
	case below:
		name = path.Join(insideDir, inside)
	default:
		name = path.Join(outsideDir, name)
	}
	file, err := u.archive.Open(name)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// serveDiff answers with what a reload of the configuration in the request's body would change.
func (d *Daemon) serveDiff(w http.ResponseWriter, r *http.Request) {
	if !d.diffing.TryLock() {
		http.Error(w, "another configuration is being compared: try again", http.StatusTooManyRequests)
		return
	}
	defer d.diffing.Unlock()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDiff))
	if err != nil {
		http.Error(w, fmt.Sprintf("read the configuration: %v", err), http.StatusRequestEntityTooLarge)
		return
	}
	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		http.Error(w, fmt.Sprintf("this is no configuration as poller diff sends it: %v", err), http.StatusBadRequest)
		return
	}
	if d.o.Load == nil || len(d.o.Files.Config) == 0 {
		http.Error(w, "this poller was started without a file that could be loaded again", http.StatusNotImplemented)
		return
	}
	main := strings.TrimPrefix(filepath.ToSlash(d.o.Files.Config[0]), "/")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.difference(unpacked{archive, main})) // a client that left is none of our business
}

func (d *Daemon) difference(from fs.FS) Difference {
	targets, _ := d.find.targets()
	loaded := d.o.Load(targets, from)
	out := Difference{Warnings: loaded.Warnings}
	if loaded.Err != nil {
		out.Problems = problems(loaded.Err)
		return out
	}
	out.Warnings = append(out.Warnings, loaded.Config.Skipped...)
	now := d.present.Load().config
	out.Text = config.Compare(now, loaded.Config).String()
	if err := errors.Join(mayReplace(now, loaded.Config), d.mayConnect(loaded.Config)); err != nil {
		out.Problems = problems(err)
	}
	return out
}
