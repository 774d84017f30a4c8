package simulator

// Ids of the seeded account, one of each kind, for tests and examples. The
// member, the system and the access card are linked; the group and the system
// group are linked to nothing. The system's and the gateway's are not UUIDs,
// as in the API's own examples.
const (
	MemberID      = "0b7e5a10-0000-4000-8000-000000000101"
	GroupID       = "0b7e5a10-0000-4000-8000-000000000201"
	SystemID      = "sys-sim-0301"
	SystemGroupID = "0b7e5a10-0000-4000-8000-000000000401"
	AccessCardID  = "0b7e5a10-0000-4000-8000-000000000501"
	GatewayID     = "gw-sim-0601"
	DeviceID      = "0b7e5a10-0000-4000-8000-000000000701"
)

const accountID = "0b7e5a10-0000-4000-8000-000000000001"

const (
	contractorID = "0b7e5a10-0000-4000-8000-000000000102"
	wikiID       = "0b7e5a10-0000-4000-8000-000000000302"
)

// seed fills the account. Times are fixed, so that log queries find the same
// lines whatever the clock says.
func (w *world) seed() {
	operator := &member{
		memberWrite: memberWrite{Name: "Build Operator"}, id: MemberID, createdAt: "2026-01-05 09:00:00",
		email: "operator@example.com", avatar: "https://cdn.example.com/operator.png", mfa: true,
	}
	contractor := &member{
		memberWrite: memberWrite{Name: "Contractor"}, id: contractorID, createdAt: "2026-01-06 09:00:00",
		email: "contractor@example.com", avatar: "https://cdn.example.com/contractor.png", blocked: true,
	}
	w.members.put(operator.id, operator)
	w.members.put(contractor.id, contractor)

	w.groups.put(GroupID, &group{GroupID, groupWrite{Name: "Operations", ForcedAlwaysOnIncluded: true}})
	ci := &system{SystemID, "2026-01-05 10:00:00", true, systemWrite{
		Name: "CI", Host: "ci.example.com", URI: "https://ci.example.com", Port: "8443", Protocol: "TCP",
	}}
	wiki := &system{wikiID, "2026-01-05 10:05:00", true, systemWrite{
		Name: "Wiki", Host: "wiki.example.com", URI: "https://wiki.example.com", Port: "443", Protocol: "TCP",
	}}
	w.systems.put(ci.ID, ci)
	w.systems.put(wiki.ID, wiki)
	w.systemGroups.put(SystemGroupID, &systemGroup{SystemGroupID, systemGroupWrite{"Build farm"}})
	w.cards.put(AccessCardID, &accessCard{AccessCardID, accessCardWrite{"Build access", "Systems of the build team"}})
	w.cardMember.pairs[[2]string{AccessCardID, operator.id}] = true
	w.cardSystem.pairs[[2]string{AccessCardID, ci.ID}] = true

	eu := gateway{GatewayID, "EU gateway", "192.0.2.10", "Prague, CZ"}
	us := gateway{"gw-sim-0602", "US gateway", "192.0.2.20", "New York, US"}
	w.gateways.put(eu.ID, &eu)
	w.gateways.put(us.ID, &us)

	check := postureCheck{"2026-03-01 08:00:05", 1}
	w.devices.put(DeviceID, &device{
		ID: DeviceID, CreatedAt: "2026-01-05 11:00:00", Status: "approved", Name: "laptop-17", Hostname: "laptop-17",
		OS: "Windows", OSVersion: "11", App: "4.4.1", LockScreen: 1, Biometrics: 1,
		Members: []deviceMember{{
			ID: "user-sim-0101", CreatedAt: operator.createdAt, LastCheck: check, Avatar: operator.avatar,
			Name: operator.Name, Username: operator.email, IsMFA: true,
		}},
	})

	user := logUser{operator.id, operator.Name, operator.email}
	closed := "2026-03-01 12:30:00"
	w.gatewayLog.add(&entry{"2026-03-01 08:00:00", operator.id, eu.ID, "", &session{
		"OVPN", "2026-03-01 08:00:00", &closed, 300, 2048, user, eu,
	}})
	w.gatewayLog.add(&entry{"2026-03-02 08:00:00", contractorID, us.ID, "", &session{
		"OVPN", "2026-03-02 08:00:00", &closed, 10, 20,
		logUser{contractor.id, contractor.Name, contractor.email},
		us,
	}})
	w.gatewayLog.add(&entry{"2026-03-03 08:00:00", operator.id, eu.ID, "", &session{
		"OVPN", "2026-03-03 08:00:00", nil, 1200, 4096, user, eu,
	}})
	for _, at := range []string{"2026-03-01 08:01:00", "2026-03-01 08:02:00", "2026-03-02 09:00:00"} {
		w.systemLog.add(&entry{at, operator.id, eu.ID, ci.ID, map[string]any{
			"timestamp": at, "user": user, "gateway": eu, "system": ci.embedded(),
		}})
	}
	w.threatLog.add(&entry{"2026-03-01 08:03:00", operator.id, eu.ID, "", map[string]any{
		"timestamp": "2026-03-01 08:03:00", "user": user, "domain": "malware.example.net", "action": "blocked",
	}})
	w.postureLog.add(&entry{check.Timestamp, operator.id, "", "", map[string]any{
		"timestamp": check.Timestamp, "user": user, "device_id": DeviceID, "is_successful": check.IsSuccessful,
	}})
}
