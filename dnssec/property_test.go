package dnssec

import (
	"slices"
	"testing"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// prover is the chain of a zone, and what may come out of it.
type prover struct {
	*testing.T
	zone    *testZone
	subsets [][]rrset.Set
	chain   []wire.Name // names with NSEC3 records; nil with NSEC
	optOut  bool
}

// upTo3 returns all subsets of sets with at most three members.
func upTo3(sets []rrset.Set) [][]rrset.Set {
	subsets := [][]rrset.Set{nil}
	for i := range sets {
		subsets = append(subsets, []rrset.Set{sets[i]})
		for j := range i {
			subsets = append(subsets, []rrset.Set{sets[j], sets[i]})
			for k := range j {
				subsets = append(subsets, []rrset.Set{sets[k], sets[j], sets[i]})
			}
		}
	}
	return subsets
}

// vague reports whether an insecure delegation may be at name, or above it, as
// far as the records tell: its next closer name has none (RFC 5155 §6).
func (p *prover) vague(name wire.Name) bool {
	if !p.optOut || !name.Within(p.zone.apex) {
		return false
	}
	for n := name; ; n, _ = n.Parent() {
		if slices.Contains(p.chain, n) {
			types := p.zone.nodes[n]
			ends := n != p.zone.apex && slices.Contains(types, wire.TypeNS) || slices.Contains(types, wire.TypeDNAME)
			return n != name && !ends
		}
	}
}

// claim tries to prove something that is true or not from every subset.
func (p *prover) claim(what string, name wire.Name, is bool, try func([]rrset.Set, *Budget) (Proof, error)) {
	p.Helper()
	best := rrset.Unchecked
	for _, proofs := range p.subsets {
		proof, err := try(proofs, NewBudget())
		if err != nil {
			if proof != (Proof{}) {
				p.Fatalf("%s: %+v comes with the error %v", what, proof, err)
			}
			continue
		}
		best = max(best, proof.Trust)
		switch {
		case proof.Trust == rrset.Secure && is:
		case proof.Trust == rrset.Insecure && p.vague(name):
		default:
			p.Errorf("%s, which is %v: %v by %s", what, is, proof.Trust, owners(proofs))
			return
		}
	}
	want := rrset.Secure
	if p.vague(name) {
		want = rrset.Insecure
	}
	if is && best != want {
		p.Errorf("%s: it is so, and %v, but want it %v", what, best, want)
	}
}

func owners(sets []rrset.Set) string {
	text := ""
	for i := range sets {
		text += "\n\t" + sets[i].RRs[0].String()
	}
	return text
}

var claimedTypes = []wire.Type{
	wire.TypeA, wire.TypeMX, wire.TypeNS, wire.TypeSOA, wire.TypeCNAME, wire.TypeDNAME, wire.TypeDS, wire.TypeANY,
}

// all makes every claim about name.
func (p *prover) all(name wire.Name) {
	z := p.zone
	k, types, source := z.lookup(name)
	p.claim(name.String()+" does not exist", name, k == missing, func(proofs []rrset.Set, b *Budget) (Proof, error) {
		return DenyName(name, z.apex, proofs, b)
	})
	for _, t := range claimedTypes {
		q := wire.Question{Name: name, Type: t}
		is := !slices.Contains(types, t) && !slices.Contains(types, wire.TypeCNAME)
		switch {
		case k == cut:
			is = is && t == wire.TypeDS
		case k != node && k != instance || t == wire.TypeANY && len(types) > 0:
			is = false
		case t == wire.TypeDS && name == z.apex:
			is = z.apex == wire.Root
		}
		p.claim("no "+q.String(), name, is, func(proofs []rrset.Set, b *Budget) (Proof, error) {
			return DenyType(q, z.apex, proofs, b)
		})
	}
	for w := range z.nodes {
		if w[0] != 1 || w[1] != '*' || w == name {
			continue
		}
		p.claim(name.String()+" is an instance of "+w.String(), name, k == instance && source == w, func(proofs []rrset.Set, b *Budget) (Proof, error) {
			return DenyCloser(name, w, z.apex, proofs, b)
		})
	}
	noCut := k != foreign && k != cut && name != z.apex
	for want, is := range map[DSDenial]bool{NoCut: noCut, Unsigned: k == cut && !slices.Contains(types, wire.TypeDS)} {
		if want == NoCut && p.vague(name) {
			is = false // nobody can tell
		}
		p.claim(name.String()+" is "+want.String(), name, is, func(proofs []rrset.Set, b *Budget) (Proof, error) {
			got, proof, err := DenyDS(name, z.apex, proofs, b)
			if err == nil && got != want {
				return Proof{}, unproven("%s", got)
			}
			return proof, err
		})
	}
}

// TestWhatIsTrueIsProvenAndNothingElse tries every claim about every name in and
// around small zones on every subset of their records that is large enough for
// any proof.
func TestWhatIsTrueIsProvenAndNothingElse(t *testing.T) {
	for _, tc := range testZones {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			z := parseZone(t, tc.apex, tc.text)
			provers := []*prover{{zone: z, subsets: upTo3(z.nsec())}}
			for _, optOut := range []bool{false, true} {
				sets, names := z.nsec3(optOut, "aabbccdd", 0)
				provers = append(provers, &prover{zone: z, subsets: upTo3(sets), chain: names, optOut: optOut})
			}
			for i, kind := range []string{"NSEC", "NSEC3", "NSEC3 with opt-out"} {
				t.Run(kind, func(t *testing.T) {
					p := provers[i]
					p.T = t
					for _, name := range z.around() {
						p.all(name)
					}
				})
			}
		})
	}
}
