package netprep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"shirube/internal/netlink"
)

// tableName is of the table of what drops router advertisements: `nft list table ip6
// shirube-netprep` shows it. Each interface has a chain of its name in it.
const tableName = "shirube-netprep"

// What is dropped is ICMPv6 (RFC 4443) of the type of router advertisements (RFC 4861
// §4.2).
const (
	icmpv6              = 58
	routerAdvertisement = 134
	drop                = 0    // NF_DROP of netfilter.h
	beforeOthers        = -300 // priority of the chain: before what others filter
)

// errNoNFTables is of a kernel that has none.
var errNoNFTables = errors.New("the kernel has no nf_tables")

// message returns one of nf_tables, for IPv6. Numbers in it are in the order of the
// network.
func message(typ, flags uint16, attributes []byte) netlink.Message {
	header := []byte{unix.NFPROTO_IPV6, unix.NFNETLINK_V0, 0, 0} // struct nfgenmsg
	return netlink.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | typ, Flags: flags, Body: append(header, attributes...)}
}

// batch returns the message that begins or ends what is done as a whole.
func batch(typ uint16) netlink.Message {
	return netlink.Message{Type: typ, Body: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}}
}

// dropAdvertisements has the kernel drop router advertisements that come by an
// interface. The rule is the network namespace's: it stays when this process ends.
func dropAdvertisements(name string) error {
	table := netlink.Attr(nil, unix.NFTA_TABLE_NAME, text(tableName))
	hook := netlink.Attr(nil, unix.NFTA_HOOK_HOOKNUM, word(unix.NF_INET_LOCAL_IN))
	priority := int32(beforeOthers)
	hook = netlink.Attr(hook, unix.NFTA_HOOK_PRIORITY, word(uint32(priority)))
	chain := netlink.Attr(nil, unix.NFTA_CHAIN_TABLE, text(tableName))
	chain = netlink.Attr(chain, unix.NFTA_CHAIN_NAME, text(name))
	chain = netlink.Nested(chain, unix.NFTA_CHAIN_HOOK, hook)
	chain = netlink.Attr(chain, unix.NFTA_CHAIN_TYPE, text("filter"))
	rule := netlink.Nested(ruleKey(name), unix.NFTA_RULE_EXPRESSIONS, expressions(name))
	const create = unix.NLM_F_ACK | unix.NLM_F_CREATE
	// Rules that the chain may have go; all or nothing.
	err := netlink.Do(unix.NETLINK_NETFILTER,
		batch(unix.NFNL_MSG_BATCH_BEGIN),
		message(unix.NFT_MSG_NEWTABLE, create, table),
		message(unix.NFT_MSG_NEWCHAIN, create, chain),
		message(unix.NFT_MSG_DELRULE, unix.NLM_F_ACK, ruleKey(name)),
		message(unix.NFT_MSG_NEWRULE, create|unix.NLM_F_APPEND, rule),
		batch(unix.NFNL_MSG_BATCH_END))
	if lacksNFTables(err) {
		return fmt.Errorf("%w: %w", errNoNFTables, err)
	}
	return explain(err)
}

// lacksNFTables reports whether an error is that of a kernel without them.
func lacksNFTables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

// ruleKey is where the rule is.
func ruleKey(name string) []byte {
	b := netlink.Attr(nil, unix.NFTA_RULE_TABLE, text(tableName))
	return netlink.Attr(b, unix.NFTA_RULE_CHAIN, text(name))
}

// ruleOf tells whether the rule for an interface is there, and as it has to be.
func ruleOf(name string) (presence, error) {
	list, err := netlink.Dump(unix.NETLINK_NETFILTER, message(unix.NFT_MSG_GETRULE, 0, ruleKey(name)))
	switch {
	case errors.Is(err, unix.EPERM):
		return unseen, nil
	case errors.Is(err, unix.ENOENT), lacksNFTables(err):
		return missing, nil
	case err != nil:
		return missing, fmt.Errorf("rules of nftables: %w", err)
	}
	for _, m := range list {
		if len(m.Body) < 4 {
			continue
		}
		values, err := attributes(m.Body[4:])
		if err != nil {
			return missing, err
		}
		if bytes.Equal(values[unix.NFTA_RULE_TABLE], text(tableName)) && bytes.Equal(values[unix.NFTA_RULE_CHAIN], text(name)) &&
			same(expressions(name), values[unix.NFTA_RULE_EXPRESSIONS]) {
			return there, nil
		}
	}
	return missing, nil
}

// same reports whether the kernel's expressions are those wanted.
func same(want, got []byte) bool {
	w, err1 := netlink.Attrs(want)
	g, err2 := netlink.Attrs(got)
	if err1 != nil || err2 != nil || len(w) != len(g) {
		return false
	}
	for i := range w {
		if !within(w[i].Value, g[i].Value) {
			return false
		}
	}
	return true
}

// within reports whether got has all attributes that want has. It may have more, and
// in another order.
func within(want, got []byte) bool {
	list, err := netlink.Attrs(want)
	found, err2 := attributes(got)
	if err != nil || err2 != nil {
		return false
	}
	for _, w := range list {
		g, ok := found[w.Type]
		if !ok || w.Nested && !within(w.Value, g) || !w.Nested && !bytes.Equal(w.Value, g) {
			return false
		}
	}
	return true
}

// expressions is `iifname NAME icmpv6 type nd-router-advert drop`.
func expressions(name string) (list []byte) {
	add := func(name string, data []byte) {
		e := netlink.Attr(nil, unix.NFTA_EXPR_NAME, text(name))
		list = netlink.Nested(list, unix.NFTA_LIST_ELEM, netlink.Nested(e, unix.NFTA_EXPR_DATA, data))
	}
	meta := func(key uint32) {
		e := netlink.Attr(nil, unix.NFTA_META_KEY, word(key))
		add("meta", netlink.Attr(e, unix.NFTA_META_DREG, word(unix.NFT_REG_1)))
	}
	equal := func(value ...byte) {
		e := netlink.Attr(nil, unix.NFTA_CMP_SREG, word(unix.NFT_REG_1))
		e = netlink.Attr(e, unix.NFTA_CMP_OP, word(unix.NFT_CMP_EQ))
		add("cmp", netlink.Nested(e, unix.NFTA_CMP_DATA, netlink.Attr(nil, unix.NFTA_DATA_VALUE, value)))
	}
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	meta(unix.NFT_META_IIFNAME)
	equal(padded...)
	meta(unix.NFT_META_L4PROTO)
	equal(icmpv6)
	e := netlink.Attr(nil, unix.NFTA_PAYLOAD_DREG, word(unix.NFT_REG_1))
	e = netlink.Attr(e, unix.NFTA_PAYLOAD_BASE, word(unix.NFT_PAYLOAD_TRANSPORT_HEADER))
	e = netlink.Attr(e, unix.NFTA_PAYLOAD_OFFSET, word(0))
	add("payload", netlink.Attr(e, unix.NFTA_PAYLOAD_LEN, word(1)))
	equal(routerAdvertisement)
	verdict := netlink.Attr(nil, unix.NFTA_VERDICT_CODE, word(drop))
	e = netlink.Attr(nil, unix.NFTA_IMMEDIATE_DREG, word(unix.NFT_REG_VERDICT))
	add("immediate", netlink.Nested(e, unix.NFTA_IMMEDIATE_DATA, netlink.Nested(nil, unix.NFTA_DATA_VERDICT, verdict)))
	return list
}

// text returns a string as the kernel has it, with a zero behind it.
func text(s string) []byte { return append([]byte(s), 0) }

// word returns a number in the order of the network.
func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
