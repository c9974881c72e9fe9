package poller_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// contract says which tests hold each point of what real peers expect of a poller, as observed with
// ServiceRadar v1.0.78: checkers in the field, and its core.
var contract = []struct {
	point, says string
	tests       []string // PACKAGE.TEST
}{
	{"1", "a checker's health, under any name or none, makes nothing look down", []string{
		"internal/transport.TestHealth", "internal/transport.TestHealthIsNotAsked", "internal/transport.TestHealthHangs",
		"actors.TestHealthDecidesNothing", "actors.TestHealthIsNotAskedOfACheckerWithoutIt", "actors.TestHealthIsAskedOncePerConnection",
		"internal/daemon.TestHealthOfAllKinds",
	}},
	{"2", "what a check asks: the agent's name, the target as details, the port", []string{
		"internal/transport.TestAsk", "internal/daemon.TestIdentityReachesCoreAndCheckers", "internal/daemon.TestPoorAnswers",
	}},
	{"3", "results at their interval, from the last sequence; none, no news, not found", []string{
		"internal/transport.TestResultsRequest", "internal/transport.TestGetResults", "internal/transport.TestStreamResults",
		"internal/transport.TestNoResults", "internal/wire.TestResults", "actors.TestResultsInterval", "actors.TestNothingToReport",
		"actors.TestSequenceWaitsForTheReport", "actors.TestSequencesMoveWithTheirReports", "actors.TestResultsAreNotAskedForTwice",
		"config.TestStreamsByDefault",
	}},
	{"4", "the chunks of a result stream, merged, or a clear reason", []string{
		"internal/wire.TestScripts", "internal/wire.TestMergeManyDevices", "internal/wire.TestMergeMemory", "internal/wire.TestMergeBounds",
		"internal/wire.FuzzMerge", "internal/transport.TestResultsEnd", "internal/transport.TestResultsTooLarge", "internal/transport.TestAfterTheLastChunk",
		"sdk.TestPollerMergesResults",
	}},
	{"5", "core's message envelope, and the keys of the host in it", []string{
		"internal/wire.TestEnvelope", "internal/wire.TestScripts", "internal/wire.TestNamesAreEscaped", "internal/wire.FuzzEnvelope",
		"internal/wire.FuzzEnrich", "internal/daemon.TestCoreEnvelope",
	}},
	{"6", "no message above the limit; a larger status in slices of its message", []string{
		"internal/wire.TestReports", "internal/wire.FuzzFit", "internal/daemon.TestLargeStatuses", "internal/daemon.TestTooLargeToKeep",
		"internal/daemon.TestAnswerAboveTheAgentsLimit", "internal/transport.TestLargeReports", "internal/transport.TestVeryLargeStatus",
	}},
	{"7", "no equal keys in one stream; one call where one will do", []string{
		"internal/wire.TestStreamable", "internal/wire.TestReports", "internal/daemon.TestEqualNames", "internal/daemon.TestDistinctNames",
		"internal/daemon.TestCoreMaxMessage", "internal/transport.TestLargeReportWithEqualKeys",
	}},
	{"8", "the first delivery on a connection is a stream", []string{
		"internal/transport.TestFirstDeliveryIsStream", "internal/transport.TestFirstDeliveryWithEqualKeys", "internal/transport.TestFirstDeliveryIsHeartbeat",
		"internal/transport.TestCoreRestarts", "internal/transport.TestCoreRestartsUnseen", "internal/daemon.TestCoreThatForgets",
	}},
	{"9", "a report each cycle, with its time, strictly in order", []string{
		"actors.TestHeartbeatWithoutAgents", "actors.TestReportsStayInOrder", "actors.TestStamp", "actors.TestCoreAway", "internal/transport.TestOneAtATime",
	}},
	{"10", "what each answer of core's means", []string{
		"internal/wire.TestJudge", "actors.TestEachAnswerOfCore", "actors.TestEachClassInItsWay", "actors.TestExhaustedReportIsHalved",
		"actors.TestExhaustedOnceIsTriedAgain", "actors.TestExhaustedStatusIsSetAside", "actors.TestExhaustedForAWhile", "internal/transport.TestHold", "internal/transport.TestSetAside",
		"internal/transport.TestExhausted", "internal/transport.TestRefusedInMidst", "internal/daemon.TestAnswersOfCore", "internal/daemon.TestCoreWithASmallerLimit",
	}},
	{"11", "literal addresses fill the address keys, names only what is resolved beside", []string{
		"internal/wire.TestScripts", "internal/wire.FuzzEnrich", "internal/transport.TestResolver", "internal/transport.TestResolverNeverWaits",
		"internal/daemon.TestHostNames",
	}},
}

// TestContractIsHeld looks that these tests exist. To run them and see the table: task contract.
func TestContractIsHeld(t *testing.T) {
	t.Parallel()
	for _, point := range contract {
		for _, name := range point.tests {
			pkg, test, _ := strings.Cut(name, ".")
			if !hasTest(t, pkg, test) {
				t.Errorf("point %s: %s has no test %s", point.point, pkg, test)
			}
		}
	}
}

func hasTest(t *testing.T, pkg, test string) bool {
	t.Helper()
	files, err := filepath.Glob(pkg + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		return slices.ContainsFunc(lines(t, file), func(line string) bool { return strings.HasPrefix(line, "func "+test+"(") })
	})
}
