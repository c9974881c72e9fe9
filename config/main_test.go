package config

import (
	"os"
	"testing"

	"github.com/serviceradar/poller/internal/proptest"
)

func TestMain(m *testing.M) { os.Exit(proptest.Main(m)) }
