package integration_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// operation is one row of what is known of the GoodAccess API.
type operation struct {
	method, path string
	scope        string // "" for the one that needs none
	inferred     bool   // the path was never seen
	body         string // none, json, member (may hold a password) or mint
	route        *regexp.Regexp
}

// api is the API as its documents have it: method, path, scope, how the path
// is known (D and S vendor, P provider, I inferred) and what body it takes.
var api = parseAPI(`
GET    /api/v1/test-connection -                                                          D none
GET    /api/v1/members members.read-all                                                   D none
GET    /api/v1/member/{teamMemberId} members.read                                         D none
PUT    /api/v1/member/{teamMemberId} members.update                                       D member
DELETE /api/v1/member/{teamMemberId} members.delete                                       D none
POST   /api/v1/member members.create                                                      D json
POST   /api/v1/member/{teamMemberId}/disconnect members.disconnect                        D none
GET    /api/v1/groups groups.read-all                                                     D none
GET    /api/v1/group/{groupId} groups.read                                                D none
PUT    /api/v1/group/{groupId} groups.update                                              D json
DELETE /api/v1/group/{groupId} groups.delete                                              I none
POST   /api/v1/group groups.create                                                        D json
GET    /api/v1/systems system.read-all                                                    P none
GET    /api/v1/system/{systemId} systems.read                                             I none
PUT    /api/v1/system/{systemId} systems.update                                           P json
DELETE /api/v1/system/{systemId} systems.delete                                           P none
POST   /api/v1/system systems.create                                                      P json
GET    /api/v1/system-groups system-groups.read-all                                       D none
GET    /api/v1/system-group/{systemGroupId} system-groups.read                            D none
PUT    /api/v1/system-group/{systemGroupId} system-groups.update                          D json
DELETE /api/v1/system-group/{systemGroupId} system-groups.delete                          D none
POST   /api/v1/system-group system-groups.create                                          D json
GET    /api/v1/access-cards access-card.read-all                                          D none
GET    /api/v1/access-card/{accessCardId} access-cards.read                               D none
PUT    /api/v1/access-card/{accessCardId} access-cards.update                             P json
DELETE /api/v1/access-card/{accessCardId} access-cards.delete                             P none
POST   /api/v1/access-card access-cards.create                                            P json
POST   /api/v1/relation/access-card/{accessCardId}/system/{systemId} system-ac-relation.add          D none
DELETE /api/v1/relation/access-card/{accessCardId}/system/{systemId} system-ac-relation.delete       D none
POST   /api/v1/relation/access-card/{accessCardId}/member/{teamMemberId} member-ac-relation.add      D none
DELETE /api/v1/relation/access-card/{accessCardId}/member/{teamMemberId} member-ac-relation.delete   D none
POST   /api/v1/relation/group/{groupId}/access-card/{accessCardId} group-access-card-relation.add    I none
DELETE /api/v1/relation/group/{groupId}/access-card/{accessCardId} group-access-card-relation.delete I none
POST   /api/v1/relation/group/{groupId}/member/{teamMemberId} member-group-relation.add              I none
DELETE /api/v1/relation/group/{groupId}/member/{teamMemberId} member-group-relation.delete           I none
POST   /api/v1/relation/system-group/{systemGroupId}/system/{systemId} system-system-group-relation.add    I none
DELETE /api/v1/relation/system-group/{systemGroupId}/system/{systemId} system-system-group-relation.delete I none
POST   /api/v1/relation/system-group/{systemGroupId}/access-card/{accessCardId} system-group-access-card-relation.add    I none
DELETE /api/v1/relation/system-group/{systemGroupId}/access-card/{accessCardId} system-group-access-card-relation.delete I none
GET    /api/v1/gateways gateway.read-all                                                  I none
GET    /api/v1/gateway/{gatewayId} gateways.read                                          I none
GET    /api/v1/devices devices.read-all                                                   D none
GET    /api/v1/device/{deviceId} devices.read                                             D none
DELETE /api/v1/device/{deviceId} devices.delete                                           I none
GET    /api/v1/tokens token.read-all                                                      S none
GET    /api/v1/token/{tokenId} token.read                                                 S none
DELETE /api/v1/token/{tokenId} token.delete                                               S none
POST   /api/v1/token token.create                                                         S mint
GET    /api/v1/gateway-level-logs gateway-log.read                                        D json
GET    /api/v1/system-level-logs system-logs.read                                         D json
GET    /api/v1/threat-blocker-logs threat-blocker-logs.read                               I json
GET    /api/v1/device-posture-check-logs device-posture-check-logs.read                   I json
GET    /api/v1/admin-logs admin-logs.read                                                 I json
`)

var parameter = regexp.MustCompile(`\{\w+\}`)

func parseAPI(table string) []*operation {
	var list []*operation
	for line := range strings.Lines(strings.TrimSpace(table)) {
		f := strings.Fields(line)
		op := &operation{method: f[0], path: f[1], scope: strings.TrimPrefix(f[2], "-"), inferred: f[3] == "I", body: f[4]}
		op.route = regexp.MustCompile("^" + parameter.ReplaceAllString(op.path, `([A-Za-z0-9._~-]{1,128})`) + "$")
		list = append(list, op)
	}
	if len(list) != 53 {
		panic(fmt.Sprintf("%d operations", len(list)))
	}
	return list
}

// operationAt finds the operation that a request line stands for, nil where
// it stands for none.
func operationAt(method, target string) *operation {
	for _, op := range api {
		if op.method != method {
			continue
		}
		for _, id := range op.route.FindAllStringSubmatch(target, -1) {
			if !slices.Contains(id[1:], ".") && !slices.Contains(id[1:], "..") {
				return op
			}
		}
	}
	return nil
}

// aToken is the id of an upstream token that exists, and is nobody's.
const aToken = "5f0c2d7e-91b4-4c63-8a17-3e0d5b9f6a21"

// target is the operation's path with ids in it. They hold every byte that an
// id may, save that those of tokens are UUIDs.
func (op *operation) target() string {
	return parameter.ReplaceAllStringFunc(op.path, func(name string) string {
		if name == "{tokenId}" {
			return aToken
		}
		return strings.Trim(name, "{}") + "-1.2_3~4"
	})
}

func (op *operation) tokens() bool {
	return strings.HasPrefix(op.path, "/api/v1/token/") || op.path == "/api/v1/tokens" || op.path == "/api/v1/token"
}

// String names the operation in the output of a test.
func (op *operation) String() string { return op.method + " " + op.path }

// scopesOf returns all 52 scopes but those given.
func scopesBut(without ...string) []string {
	var list []string
	for _, op := range api {
		if op.scope != "" && !slices.Contains(without, op.scope) {
			list = append(list, op.scope)
		}
	}
	return list
}

// tokenScopes are those that no minted token may carry.
var tokenScopes = []string{"token.create", "token.read", "token.read-all", "token.delete"}
