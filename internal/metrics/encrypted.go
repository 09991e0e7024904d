package metrics

// encryptedMetrics are of what all encrypted transports have in common, and of QUIC.
func encryptedMetrics() []Metric { return append(secureMetrics(), quicMetrics()...) }

func secureMetrics() []Metric {
	return []Metric{
		{
			"shirube_encrypted_connections", Gauge, nil,
			"Connections of DoT, DoH, DoH3 and DoQ that are open",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Conns.Open)) },
		},
		{
			"shirube_encrypted_clients", Gauge, nil,
			"Clients that have one: IPv4 addresses, and IPv6 /64s",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Conns.Clients)) },
		},
		{
			"shirube_encrypted_connections_accepted_total", Counter, nil,
			"Connections of DoT, DoH, DoH3 and DoQ that there was room for",
			func(s *Snapshot, e *emitter) { e.count(s.Conns.Accepted) },
		},
		{
			"shirube_encrypted_connections_resumed_total", Counter, nil,
			"Those that resumed a session",
			func(s *Snapshot, e *emitter) { e.count(s.Conns.Resumed) },
		},
		{
			"shirube_encrypted_connections_refused_total", Counter,
			[]string{"reason"},
			"Connections of DoT, DoH, DoH3 and DoQ that were closed on arrival: too many in `total`, too many of one `client`, too many `handshakes` of one",
			func(s *Snapshot, e *emitter) {
				e.count(s.Conns.OverTotal, "total")
				e.count(s.Conns.OverClient, "client")
				e.count(s.Conns.OverRate, "handshakes")
			},
		},
	}
}

func quicMetrics() []Metric {
	by := []string{"transport"}
	return []Metric{
		{
			"shirube_quic_connections", Gauge, by,
			"Connections of QUIC that are open",
			perQUIC(func(q *QUIC) float64 { return float64(q.Open) }),
		},
		{
			"shirube_quic_connections_accepted_total", Counter, by,
			"Connections of QUIC that were served",
			perQUIC(func(q *QUIC) float64 { return float64(q.Accepted) }),
		},
		{
			"shirube_quic_early_connections_total", Counter, by,
			"Those that asked before the handshake was over (0-RTT)",
			perQUIC(func(q *QUIC) float64 { return float64(q.Early) }),
		},
		{
			"shirube_quic_handshakes", Gauge, by,
			"Handshakes of QUIC that are under way",
			perQUIC(func(q *QUIC) float64 { return float64(q.Handshakes) }),
		},
		{
			"shirube_quic_retries_total", Counter, by,
			"Clients of QUIC that were asked to show their address: many handshakes are under way, or many are one client's",
			perQUIC(func(q *QUIC) float64 { return float64(q.Retries) }),
		},
		{
			"shirube_quic_connections_refused_total", Counter, by,
			"Connections of QUIC refused because of too many handshakes",
			perQUIC(func(q *QUIC) float64 { return float64(q.Refused) }),
		},
		{
			"shirube_quic_connections_stalled_total", Counter, by,
			"Times that a connection's streams were not accepted because as many as may be were being answered",
			perQUIC(func(q *QUIC) float64 { return float64(q.Stalled) }),
		},
		{
			"shirube_doq_failures_total", Counter,
			[]string{"reason"},
			"What came by DoQ and was not answered: connections whose client does not speak it (`protocol`); streams that were reset (`cancelled`) or took too long (`slow`). `untaken`: queries whose client takes no responses",
			func(s *Snapshot, e *emitter) {
				for i := range s.QUICs {
					if str := s.QUICs[i].Streams; str != nil {
						e.count(str.ProtocolErrors, "protocol")
						e.count(str.Cancelled, "cancelled")
						e.count(str.TooSlow, "slow")
						e.count(str.Untaken, "untaken")
					}
				}
			},
		},
		{
			"shirube_quic_window_bytes", Gauge, nil,
			"What clients of QUIC may send before it is read, all together",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Conns.Window)) },
		},
		{
			"shirube_quic_narrow_connections_total", Counter, nil,
			"Connections of QUIC whose clients may send little before it is read, because others may send much",
			func(s *Snapshot, e *emitter) { e.count(s.Conns.Narrow) },
		},
	}
}

func perQUIC(of func(q *QUIC) float64) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		for i := range s.QUICs {
			e.add(of(&s.QUICs[i]), lower(s.QUICs[i].Proto.String()))
		}
	}
}
