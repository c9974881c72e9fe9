package probe

// Kind is a kind of check.
type Kind struct {
	// Type is what pollers ask for, as type in a check.
	Type string
	// Details says what its details are, for people.
	Details string
	// Look is the probe.
	Look Func
}

// Kinds returns all that there are, sorted by type.
func Kinds() []Kind {
	return []Kind{
		{"dns", "a name; available if its server answers, and as expected", DNS},
		{"exec", "a command in the checker's file, by its name; available if it ends with OK or WARNING, as Nagios plugins do", Exec},
		{"grpc", "host:port; available if the gRPC health service there answers SERVING", GRPC},
		{"http", "a URL; available if it answers with a status from 200 to 399, or as expected", HTTP},
		{"icmp", "a host; available if it answers to pings", ICMP},
		{"mysql", "an object with target and credentials; available if the MySQL or MariaDB server lets the check in and answers", MySQL},
		{"port", "host:port; available if the TCP port accepts connections, and answers as expected", Port},
		{"postgres", "host[:port]; available if the PostgreSQL server lets the check in and answers", Postgres},
		{"process", "the name of a process; available if it runs on the checker's machine", Process},
		{"redis", "host[:port]; available if the Redis server lets the check in and answers", Redis},
		{"sysmon", "nothing; CPUs, memory and disks of the checker's machine, available if within limits", Sysmon},
		{"tcp", "the same as port", Port},
		{"tls", "host:port; available if the certificate there is accepted, and long enough", TLS},
	}
}
