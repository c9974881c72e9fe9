package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkReport is the way of a report through a Disk, beside the writing and syncing of the same bytes
// to the end of a file. They take turns, because what a disk has to give changes all the time.
func BenchmarkReport(b *testing.B) {
	for _, size := range []int{1 << 10, 3_000_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			d, err := Open(filepath.Join(dir, "spool"), Config{MaxBytes: 1 << 30, MaxAge: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			bare, err := os.Create(filepath.Join(dir, "bare"))
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, size)
			var appended, through, barely time.Duration
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				id := fmt.Sprint(i)
				if _, _, err := d.Append(id, began, body, nil); err != nil {
					b.Fatal(err)
				}
				appended += time.Since(began)
				if got, _, _, err := d.Next(); got != id || err != nil {
					b.Fatal(got, err)
				}
				d.Ack(id)
				through += time.Since(began)

				began = time.Now()
				if _, err := bare.Write(body); err != nil {
					b.Fatal(err)
				}
				if err := bare.Sync(); err != nil {
					b.Fatal(err)
				}
				barely += time.Since(began)
			}
			b.ReportMetric(float64(appended.Microseconds())/float64(b.N), "µs/append")
			b.ReportMetric(float64(through.Microseconds())/float64(b.N), "µs/through")
			b.ReportMetric(float64(barely.Microseconds())/float64(b.N), "µs/bare")
			b.ReportMetric(float64(through)/float64(barely), "ratio")
			for _, err := range []error{d.Safe(), d.Close(), bare.Close()} {
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// BenchmarkOpen reads and checks a spool that the kernel has in memory, beside the mere reading of its files.
func BenchmarkOpen(b *testing.B) {
	const reports, size = 32, 3_000_000
	dir, cfg := filepath.Join(b.TempDir(), "spool"), Config{MaxBytes: 1 << 30, MaxAge: time.Hour}
	d, err := Open(dir, cfg)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, size)
	for i := range reports {
		if _, _, err := d.Append(fmt.Sprint(i), time.Now(), body, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	var opened, barely time.Duration
	b.SetBytes(reports * size)
	for b.Loop() {
		began := time.Now()
		d, err := Open(dir, cfg)
		if err != nil {
			b.Fatal(err)
		}
		opened += time.Since(began)
		if n, _ := d.Kept(); n != reports || d.Close() != nil {
			b.Fatalf("%d reports", n)
		}
		began = time.Now()
		files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
		if err != nil {
			b.Fatal(err)
		}
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				b.Fatal(err)
			}
		}
		barely += time.Since(began)
	}
	b.ReportMetric(opened.Seconds()/float64(b.N)*1e9/(reports*size), "s/GB")
	b.ReportMetric(barely.Seconds()/float64(b.N)*1e9/(reports*size), "bare-s/GB")
	b.ReportMetric(float64(opened)/float64(barely), "ratio")
}
