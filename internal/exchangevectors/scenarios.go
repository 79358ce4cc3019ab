package main

import "strings"

// scenarios are what each suite has a vector of.
var scenarios = []scenario{
	{
		name:   "a body in three records, the default list",
		method: "POST", host: "API.example.com:8443", target: "/v1/orders?dry=1",
		header:      map[string]string{"authorization": "Bearer 4f7d", "idempotency-key": "order-17"},
		contentType: "application/json",
		records:     []record{{`{"item":`, 0}, {`"tea",`, 0}, {`"count":2}`, 0}},
		status:      201, answerType: "application/json",
		answer: []record{{`{"order":17}`, 0}, {"", 0}},
	},
	{
		name:   "padding, a list, info, a caller key of the same suite",
		method: "PATCH", host: "api.example.com", target: "/v1/orders/17",
		header:      map[string]string{"authorization": "Bearer 4f7d", "x-account": " 4242\t", "if-match": `"3"`},
		bind:        []string{"x-account", "authorization", "if-match", "x-absent"},
		contentType: "application/merge-patch+json; charset=utf-8", info: "info of this API",
		records: []record{{`{"count":3}`, 1013}},
		caller:  sameSuite,
		status:  200, answerType: "text/event-stream",
		answer: []record{{"data: 1\n\n", 7}, {"data: 2\n\n", 0}, {"data: 3\n\n", 100}},
	},
	{
		name:   "no body, an absolute target, a caller key of another suite",
		method: "GET", host: "proxy.internal", target: "http://User.Example.com:80?of=https://x/?",
		caller: otherSuite,
		status: 200, answerType: "text/plain; charset=utf-8",
		answer: []record{{"hello", 0}},
	},
	{
		name:   "neither body, an IPv6 address, a caller key of the same suite",
		method: "DELETE", host: "[2001:DB8::1]:443", target: "/v1/orders/17?",
		header: map[string]string{"if-match": `"4"`},
		caller: sameSuite,
		status: 204,
	},
	{
		name:   "an error of the server",
		method: "POST", host: "api.example.com.", target: "/v1/orders?a??",
		contentType: "application/json",
		records:     []record{{`{"item":"tea"}`, 0}},
		status:      400, answerType: "application/problem+json", code: "stale",
		answer: []record{{`{"type":"about:blank","title":"The request is too old, or from the future","status":400,"code":"stale","now":1764009999}`, 0}},
	},
	{
		name:   "bodies of no bytes, an empty list, no types, a caller key of another suite",
		method: "PUT", host: "xn--bcher-kva.example", target: "/",
		header:  map[string]string{"authorization": "not bound"},
		bind:    []string{},
		records: []record{{"", 0}},
		caller:  otherSuite,
		status:  500,
		answer:  []record{{"", 63}},
	},
	{
		name:   "a full record",
		method: "POST", host: "api.example.com", target: "/v1/blobs",
		contentType: "application/octet-stream",
		records:     []record{{strings.Repeat("sixteen bytes...", 1024), 0}, {"end", 0}},
		status:      200, answerType: "application/octet-stream",
		answer:         []record{{"end", 16384}},
		firstSuiteOnly: true,
	},
}
