package spool

import "time"

// timed are files that tell how long each fsync takes.
type timed struct {
	files
	synced func(took time.Duration)
}

type timedFile struct {
	file
	synced func(took time.Duration)
}

func (t timed) create(name string) (file, error) { return t.file(t.files.create(name)) }

func (t timed) open(name string) (file, error) { return t.file(t.files.open(name)) }

func (t timed) file(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return timedFile{file: f, synced: t.synced}, nil
}

func (t timed) sync() error { return tellTime(t.files.sync, t.synced) }

func (t timedFile) Sync() error { return tellTime(t.file.Sync, t.synced) }

func tellTime(sync func() error, synced func(took time.Duration)) error {
	began := time.Now()
	err := sync()
	synced(time.Since(began))
	return err
}
