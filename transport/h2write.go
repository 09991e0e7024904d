package transport

// h2Outbox is what a connection of HTTP/2 has only while there is something to be
// written.
type h2Outbox struct {
	frames, records []byte // before and after encryption
	ends            []int
}

// room has out borrowed from those of all connections.
func (c *h2Conn) room() {
	if c.box == nil {
		c.box = c.server.outboxes.Get().(*h2Outbox)
		c.out = append(c.box.frames[:0], c.out...)
		c.ends = append(c.box.ends[:0], c.ends...)
	}
}

// vacate gives out back, unless a long response has made it large.
func (c *h2Conn) vacate() {
	if c.box != nil && cap(c.out)+cap(c.box.records) <= 4*bufferSize {
		c.box.frames, c.box.ends = c.out[:0], c.ends[:0]
		c.server.outboxes.Put(c.box)
	}
	c.box, c.out, c.ends = nil, nil, nil
}

// flush writes what waits, and what comes to wait meanwhile, unless somebody else
// does. mu is let go meanwhile.
func (c *h2Conn) flush() {
	for len(c.out) > 0 && !c.writing && !c.broken {
		out, ends := c.out, c.ends
		c.out, c.ends, c.writing = nil, nil, true
		c.mu.Unlock()
		err := c.write(out, ends)
		c.mu.Lock()
		c.writing = false
		if len(c.out) == 0 {
			c.out, c.ends = out[:0], ends[:0]
		}
		if err != nil {
			c.broken = true
			c.about.cut() // who reads ends it
		}
		c.wrote.Broadcast()
	}
}

// write writes frames in one call. With TLS each response is a record: there are
// clients, dnsperf among them, that find no more than one in what they read.
func (c *h2Conn) write(out []byte, ends []int) error {
	if !c.secure || len(ends) < 2 {
		_, err := c.conn.Write(out)
		return err
	}
	c.about.inner.gather(c.box.records[:0])
	at := 0
	for i, end := range ends {
		if i == len(ends)-1 {
			end = len(out)
		}
		if _, err := c.conn.Write(out[at:end]); err != nil {
			return err
		}
		at = end
	}
	var err error
	c.box.records, err = c.about.inner.scatter()
	return err
}
