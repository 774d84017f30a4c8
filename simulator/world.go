package simulator

import "time"

// The writable parts, with the names that requests use.
type (
	memberWrite struct {
		Name     string `json:"name"`
		Password string `json:"password"` // taken, and shown nowhere
	}
	groupWrite struct {
		Name                   string `json:"name"`
		ForcedAlwaysOnIncluded bool   `json:"forced_always_on_included"`
		ForcedAlwaysOnExcluded bool   `json:"forced_always_on_excluded"`
		GeoRestrictionIncluded bool   `json:"geo_restriction_included"`
	}
	systemWrite struct {
		Name     string `json:"name"`
		Host     string `json:"host"`
		URI      string `json:"uri"`
		Port     string `json:"port"` // a string in the API
		Protocol string `json:"protocol,omitempty"`
	}
	systemGroupWrite struct {
		Name string `json:"name"`
	}
	accessCardWrite struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
)

// The objects of the account.
type (
	member struct {
		memberWrite
		id, createdAt, email, avatar string
		blocked, mfa                 bool
	}
	group struct {
		ID string `json:"id"`
		groupWrite
	}
	system struct {
		ID        string `json:"id"`
		CreatedAt string `json:"created_at"`
		IsValid   bool   `json:"is_valid"`
		systemWrite
	}
	systemGroup struct {
		ID string `json:"id"`
		systemGroupWrite
	}
	accessCard struct {
		ID string `json:"id"`
		accessCardWrite
	}
	gateway struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		IP       string `json:"ip"`
		Location string `json:"location"`
	}
	device struct {
		ID        string  `json:"id"`
		CreatedAt string  `json:"created_at"`
		Status    string  `json:"status"`
		Name      string  `json:"name"`
		Hostname  string  `json:"hostname"`
		Alias     *string `json:"alias"`
		OS        string  `json:"operating_system"`
		OSVersion string  `json:"operating_system_version"`
		OSBuild   *string `json:"operating_system_version_build"`
		App       string  `json:"app_version"`
		// Flags of devices are 0 or 1, those of members true or false.
		LockScreen int            `json:"is_lock_screen_enabled"`
		Rooted     int            `json:"is_rooted"`
		DebugMode  int            `json:"is_debug_mode_enabled"`
		Emulator   int            `json:"is_device_emulator"`
		Biometrics int            `json:"is_biometrics_enabled"`
		Enclave    int            `json:"is_enclave"`
		OSOutdated int            `json:"is_os_outdated"`
		Members    []deviceMember `json:"members"`
	}
	deviceMember struct {
		ID        string       `json:"id"` // not a UUID in the API either
		CreatedAt string       `json:"created_at"`
		LastCheck postureCheck `json:"last_poster_check"` // spelled so
		Avatar    string       `json:"avatar"`
		Name      string       `json:"name"`
		Username  string       `json:"username"`
		IsBlocked bool         `json:"is_user_blocked"`
		IsMFA     bool         `json:"is_mfa_active"`
	}
	postureCheck struct {
		Timestamp    string `json:"timestamp"`
		IsSuccessful int    `json:"is_successful"`
	}
)

// Lists, single reads and access cards each name a member's fields in their
// own way.
func (m *member) listItem() any {
	return map[string]any{
		"id": m.id, "created_at": m.createdAt, "avatar": m.avatar, "name": m.Name,
		"username": m.email, "is_user_blocked": m.blocked, "is_mfa_active": m.mfa,
	}
}

func (m *member) detail() any {
	return map[string]any{
		"id": m.id, "name": m.Name, "email": m.email, "avatar_url": m.avatar,
		"is_mfa_active": m.mfa, "is_blocked": m.blocked,
	}
}

func (m *member) embedded() any {
	return map[string]any{
		"id": m.id, "created_at": m.createdAt, "team_id": accountID, "avatar_url": m.avatar,
		"name": m.Name, "username": m.email, "is_user_blocked": m.blocked, "is_mfa_active": m.mfa,
	}
}

func (s *system) embedded() any {
	shown := *s
	shown.Protocol = ""
	return shown
}

// world is the state of one account.
type world struct {
	members      resource[member]
	groups       resource[group]
	systems      resource[system]
	systemGroups resource[systemGroup]
	cards        resource[accessCard]
	gateways     resource[gateway]
	devices      resource[device]
	tokens       tokens

	cardSystem, cardMember, groupCard, groupMember, systemGroupSystem, systemGroupCard *relation

	gatewayLog, systemLog, threatLog, postureLog, adminLog logbook
}

func same[T any](row *T) any { return row }

func newWorld(o Options, now time.Time) *world {
	w := &world{
		groups: resource[group]{
			noun: "Group", listed: same[group], shown: same[group],
			make:     func(id, _ string) *group { return &group{ID: id} },
			writable: func(g *group) any { return &g.groupWrite },
			name:     func(g *group) string { return g.Name }, uniqueNew: true, uniqueChanged: true,
			repeatsStatus: true,
		},
		systems: resource[system]{
			noun: "System", listed: same[system], shown: same[system],
			make:     func(id, at string) *system { return &system{ID: id, CreatedAt: at, IsValid: true} },
			writable: func(s *system) any { return &s.systemWrite },
			name:     func(s *system) string { return s.Name }, uniqueNew: true, uniqueChanged: true,
		},
		systemGroups: resource[systemGroup]{
			noun: "System Group", listed: same[systemGroup], shown: same[systemGroup],
			make:     func(id, _ string) *systemGroup { return &systemGroup{ID: id} },
			writable: func(g *systemGroup) any { return &g.systemGroupWrite },
			name:     func(g *systemGroup) string { return g.Name }, uniqueChanged: true,
			repeatsStatus: true,
		},
		members: resource[member]{
			noun: "Member", listed: (*member).listItem, shown: (*member).detail,
			make:     func(id, at string) *member { return &member{id: id, createdAt: at} },
			writable: func(m *member) any { return &m.memberWrite },
		},
		gateways: resource[gateway]{noun: "Gateway", listed: same[gateway], shown: same[gateway]},
		devices:  resource[device]{noun: "Device", listed: same[device], shown: same[device]},
	}
	w.cards = resource[accessCard]{
		noun: "Access Card", listed: w.card, shown: w.card,
		make:     func(id, _ string) *accessCard { return &accessCard{ID: id} },
		writable: func(a *accessCard) any { return &a.accessCardWrite },
	}
	w.cardSystem = relate(&w.cards, &w.systems)
	w.cardMember = relate(&w.cards, &w.members)
	w.groupCard = relate(&w.groups, &w.cards)
	w.groupMember = relate(&w.groups, &w.members)
	w.systemGroupSystem = relate(&w.systemGroups, &w.systems)
	w.systemGroupCard = relate(&w.systemGroups, &w.cards)
	w.members.removed, w.groups.removed, w.systems.removed = w.unlink, w.unlink, w.unlink
	w.systemGroups.removed, w.cards.removed = w.unlink, w.unlink
	w.gatewayLog.form, w.systemLog.form = flatQuery, nestedQuery
	w.tokens = newTokens(o, now)
	w.seed()
	return w
}

func (w *world) unlink(id string) {
	for _, l := range []*relation{
		w.cardSystem, w.cardMember, w.groupCard, w.groupMember, w.systemGroupSystem, w.systemGroupCard,
	} {
		l.forget(id)
	}
}

// card shows an access card with its members and systems in it.
func (w *world) card(a *accessCard) any {
	members, systems := []any{}, []any{}
	for _, id := range w.members.ids {
		if w.cardMember.linked(a.ID, id) {
			members = append(members, w.members.rows[id].embedded())
		}
	}
	for _, id := range w.systems.ids {
		if w.cardSystem.linked(a.ID, id) {
			systems = append(systems, w.systems.rows[id].embedded())
		}
	}
	return map[string]any{
		"id": a.ID, "name": a.Name, "description": a.Description, "members": members, "systems": systems,
	}
}

// disconnect ends the open VPN sessions of a member, which the gateway log
// shows.
func (w *world) disconnect(c *call) reply {
	id := c.ids[0]
	if !w.members.has(id) {
		return notFound("Member")
	}
	now := c.now.Format(time.DateTime)
	for _, e := range w.gatewayLog.entries {
		if s, ok := e.value.(*session); ok && e.member == id && s.Stop == nil {
			s.Stop = &now
		}
	}
	return said("Member disconnected")
}

// actions returns what each operation of the catalogue does.
func (w *world) actions() map[string]action {
	return map[string]action{
		"testConnection": func(*call) reply { return said("Connection has been established successfully.") },

		"listMembers": w.members.list, "getMember": w.members.read, "createMember": w.members.create,
		"updateMember": w.members.update, "deleteMember": w.members.remove, "disconnectMember": w.disconnect,

		"listGroups": w.groups.list, "getGroup": w.groups.read, "createGroup": w.groups.create,
		"updateGroup": w.groups.update, "deleteGroup": w.groups.remove,

		"listSystems": w.systems.list, "getSystem": w.systems.read, "createSystem": w.systems.create,
		"updateSystem": w.systems.update, "deleteSystem": w.systems.remove,

		"listSystemGroups": w.systemGroups.list, "getSystemGroup": w.systemGroups.read,
		"createSystemGroup": w.systemGroups.create, "updateSystemGroup": w.systemGroups.update,
		"deleteSystemGroup": w.systemGroups.remove,

		"listAccessCards": w.cards.list, "getAccessCard": w.cards.read, "createAccessCard": w.cards.create,
		"updateAccessCard": w.cards.update, "deleteAccessCard": w.cards.remove,

		"addAccessCardSystem": w.cardSystem.add, "removeAccessCardSystem": w.cardSystem.remove,
		"addAccessCardMember": w.cardMember.add, "removeAccessCardMember": w.cardMember.remove,
		"addGroupAccessCard": w.groupCard.add, "removeGroupAccessCard": w.groupCard.remove,
		"addGroupMember": w.groupMember.add, "removeGroupMember": w.groupMember.remove,
		"addSystemGroupSystem": w.systemGroupSystem.add, "removeSystemGroupSystem": w.systemGroupSystem.remove,
		"addSystemGroupAccessCard": w.systemGroupCard.add, "removeSystemGroupAccessCard": w.systemGroupCard.remove,

		"listGateways": w.gateways.list, "getGateway": w.gateways.read,
		"listDevices": w.devices.list, "getDevice": w.devices.read, "deleteDevice": w.devices.remove,

		"listTokens": w.tokens.list, "getToken": w.tokens.read,
		"createToken": w.tokens.create, "revokeToken": w.tokens.remove,

		"listGatewayLevelLogs": w.gatewayLog.list, "listSystemLevelLogs": w.systemLog.list,
		"listThreatBlockerLogs": w.threatLog.list, "listDevicePostureCheckLogs": w.postureLog.list,
		"listAdminLogs": w.adminLog.list,
	}
}
