package tokens

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/strictjson"
)

// mappedBits is the length of ::ffff:0:0/96, which holds the IPv4 addresses
// in the dress of IPv6.
const mappedBits = 96

var mapped = netip.MustParseAddr("::ffff:0.0.0.0")

func readAddresses(v strictjson.Value) ([]netip.Prefix, *Refusal) {
	var list []netip.Prefix
	refusal := readStrings(fieldIPs, v, func(text string) (problem string) {
		p, problem := parseAddress(text)
		list = append(list, p)
		return problem
	})
	return list, refusal
}

// parseAddress reads an address or a CIDR; an address is a CIDR of its full
// length. Both are brought into the one form in which they are compared.
func parseAddress(text string) (p netip.Prefix, problem string) {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" {
			return p, "an address with a zone means something on one host only"
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, "expected an address or a CIDR, such as 203.0.113.10 or 203.0.113.0/24"
	}
	p = unmapped(p)
	if p != p.Masked() {
		// Is it the one host or the whole network? Upstream may take it for
		// either.
		return p, fmt.Sprintf("host bits are set: write %s or %s", p.Masked(), p.Addr())
	}
	return p, ""
}

// unmapped turns IPv4 in the dress of IPv6 into IPv4. Comparing the two forms
// says that neither holds the other.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p
}

func addressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// boundless reports whether a prefix is, or may be read as, every address:
// /0 itself; 0.0.0.0 and ::, which servers bind to everything with; and IPv6
// prefixes that hold the whole of IPv4. Only `any` permits those.
func boundless(p netip.Prefix) bool {
	return p.Addr().IsUnspecified() || p.Addr().Is6() && p.Contains(mapped)
}

// within reports whether every address of inner is one of outer.
func within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func (g *grant) permits(p netip.Prefix) bool {
	if g.anyIP {
		return true
	}
	if boundless(p) {
		return false
	}
	for _, permitted := range g.addresses {
		if within(p, permitted) {
			return true
		}
	}
	return false
}

// narrowAddresses holds the addresses against those that a token of this
// caller must be bound to. Narrowing puts the permitted parts of a prefix in
// its place, of which there may be none.
func (g *grant) narrowAddresses(asked []netip.Prefix) (granted []netip.Prefix, narrowed bool, refusal *Refusal) {
	have := make(map[netip.Prefix]bool, len(asked))
	add := func(p netip.Prefix) {
		if !have[p] {
			have[p] = true
			granted = append(granted, p)
		}
	}
	refuse := func(i int) *Refusal {
		detail := addressText(asked[i]) + " is not within the addresses that this credential may bind a token to: " + g.addressList()
		return &Refusal{Reason: policy.MintAddresses, Field: fmt.Sprintf("%s[%d]", fieldIPs, i), Detail: detail}
	}
	for i, p := range asked {
		if g.permits(p) {
			add(p)
			continue
		}
		if !g.clamp {
			return nil, false, refuse(i)
		}
		narrowed = true
		for _, permitted := range g.addresses {
			if within(permitted, p) && !boundless(permitted) {
				add(permitted)
			}
		}
	}
	if len(granted) == 0 {
		return nil, false, refuse(0)
	}
	return granted, narrowed, nil
}

// addressList names the permitted addresses in an answer, which stays short.
func (g *grant) addressList() string {
	const most = 5
	var list []string
	for i, p := range g.addresses {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(g.addresses)-most))
			break
		}
		list = append(list, addressText(p))
	}
	if len(list) == 0 {
		return "none are configured"
	}
	return strings.Join(list, ", ")
}
