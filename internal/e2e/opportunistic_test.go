package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// TestAuthoritiesAreAskedOverTLSWhereTheyHaveIt has NSD asked over TLS, which it has,
// and Knot in the clear (RFC 9539), and wants the same answers as ever.
func TestAuthoritiesAreAskedOverTLSWhereTheyHaveIt(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: fmt.Sprintf("opportunistic_encryption: [doq, dot]\nencrypted_port: %d", built.world.tlsPort)})
	client := s.ask("dig", "127.0.0.1")
	for i := range 3 { // the first time in the clear
		list, qs := slices.Clone(answered), make([]question, len(answered))
		for j := range list {
			if a := &list[j]; a.why == "wildcard" {
				a.name = fmt.Sprintf("round%d%s", i, a.name[len("any"):]) // one that memory does not have
			}
			qs[j] = list[j].question
		}
		for j, r := range client.all(t, qs) {
			a := list[j]
			want := ask(t, built.world, a.question, false)
			if d := difference(r.texts("ANSWER"), texts(want.answer)); r.status != a.rcode || d != "" {
				t.Errorf("round %d, %v: %s, want %s:%s", i, a.question, r.status, a.rcode, d)
			}
		}
	}
	s.stop()
	log := s.out.String()
	worked, failed := counter(t, log, "upstream", "Worked"), counter(t, log, "upstream", "Failed")
	if worked < 3 || failed < worked { // each NSD by one of two transports; each Knot by none
		t.Errorf("%d servers have one, %d others have not", worked, failed)
	}
	if secured, back := counter(t, log, "upstream", "Secured"), counter(t, log, "upstream", "FellBack"); secured < worked || back > len(answered)/10 { // some, on a busy machine
		t.Errorf("%d connections, %d questions that fell back", secured, back)
	}
}
