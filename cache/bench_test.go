package cache

import (
	"fmt"
	"testing"

	"shirube/internal/wire"
)

// full returns a cache with n answers, and a query for each.
func full(b *testing.B, n int) (*Answers, []*wire.Query) {
	b.Helper()
	c := NewAnswers(AnswersOptions{Bytes: 1 << 30})
	queries := make([]*wire.Query, n)
	for i := range queries {
		host := fmt.Sprintf("www.host%d.example.", i)
		c.Put(question(host, wire.TypeA), false, false, hosts(b, host, epoch,
			host+" 3600 IN CNAME cdn."+host, "cdn."+host+" 300 IN A 192.0.2.1", "cdn."+host+" 300 IN A 192.0.2.2"))
		queries[i] = query(b, fmt.Sprintf("wWw.Host%d.exAmple.", i), wire.TypeA, withEDNS(1232))
	}
	return c, queries
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("hit/%d", n), func(b *testing.B) {
			c, queries := full(b, n)
			buf := make([]byte, 0, 1500)
			now := after(10)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, hit := c.Append(buf, queries[i], now); !hit.Found {
					b.Fatal("not found")
				}
				if i++; i == len(queries) {
					i = 0
				}
			}
		})
	}
	b.Run("miss", func(b *testing.B) {
		c, _ := full(b, 1000)
		q := query(b, "absent.example.", wire.TypeA)
		buf := make([]byte, 0, 1500)
		b.ReportAllocs()
		for b.Loop() {
			if _, hit := c.Append(buf, q, epoch); hit.Found {
				b.Fatal("found")
			}
		}
	})
	b.Run("failure", func(b *testing.B) {
		c := NewAnswers(AnswersOptions{})
		c.Fail(question("lame.example.", wire.TypeA), false, nil, epoch)
		q := query(b, "lame.example.", wire.TypeA)
		buf := make([]byte, 0, 1500)
		b.ReportAllocs()
		for b.Loop() {
			if _, hit := c.Append(buf, q, epoch); !hit.Found {
				b.Fatal("not found")
			}
		}
	})
}

func BenchmarkAppendParallel(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("hit/%d", n), func(b *testing.B) {
			c, queries := full(b, n)
			now := after(10)
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 0, 1500)
				for i := 0; pb.Next(); i++ {
					if _, hit := c.Append(buf, queries[i%n], now); !hit.Found {
						b.Error("not found")
						return
					}
				}
			})
		})
	}
}

func BenchmarkPut(b *testing.B) {
	c := NewAnswers(AnswersOptions{Bytes: 16 << 20}) // evicts
	const n = 1 << 16
	questions := make([]wire.Question, n)
	answers := make([]*Answer, n)
	for i := range n {
		host := fmt.Sprintf("www.host%d.example.", i)
		questions[i] = question(host, wire.TypeA)
		answers[i] = hosts(b, host, epoch, host+" 300 IN A 192.0.2.1")
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		c.Put(questions[i], false, false, answers[i])
		i = (i + 1) % n
	}
}
