package keyring_test

// sample is what version 1 stored of a ring with keys in every state, and with
// InsecurePlaintext. It must stay readable.
const sample = `{
	"format": "sealhttp keyring",
	"version": 1,
	"ring": "default",
	"created": "2000-01-01T00:00:00Z",
	"revision": 7,
	"serial": 946771201,
	"write": "Xo+AwvCKzj58xn6S",
	"keys": [
		{
			"id": 2386016226,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "primary",
			"fingerprint": "06092-39667-36637-52788-25874-34229-53405-29026",
			"created": "2000-01-01T12:00:00.000000001Z",
			"promoted": "2000-01-02T00:00:00.000000001Z",
			"public": "BvXjN+l3xDJZZMwXN5jNv2FB09CJ53cmdM0KTK9GUl8=",
			"private": "ztkI9PnxqAfIM0TZ6Cig+kPAKPR22wRajPD2MNgoXuE="
		},
		{
			"id": 986174825,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "pending",
			"fingerprint": "46052-59237-58532-22827-43052-37014-02794-03742",
			"created": "2000-01-02T00:00:00.000000002Z",
			"public": "I4tJiUahIz0sToANb2139teslMCXiXXhOIugP2iftiQ=",
			"private": "K5AVPViqnOAP6t/ZiuTzXtjS6Hvf22k8EPX3tfCUYG4="
		},
		{
			"id": 936847020,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "previous",
			"fingerprint": "46533-45164-51284-31227-19780-41036-33988-25742",
			"created": "2000-01-01T00:00:00Z",
			"promoted": "2000-01-01T12:00:00Z",
			"replaced": "2000-01-02T00:00:00.000000001Z",
			"public": "0lWe3ZmZST/KxEWqGBOgyusnSXIxXGC49Wwj7C5nNxQ=",
			"private": "QXHncE2HEzMTL86YF/16ytdsaDO8QGVUwhYDFx8OfLE="
		},
		{
			"id": 2985054542,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "retired",
			"fingerprint": "58359-15418-53265-11671-51902-09751-38841-24400",
			"created": "2000-01-01T00:00:00Z",
			"promoted": "2000-01-01T00:00:00Z",
			"replaced": "2000-01-01T12:00:00Z",
			"retired": "2000-01-01T12:00:00.000000001Z",
			"revoked": true
		}
	],
	"integrity_key": "sqEN+qKdem58kChZV/LIL4gA0XnkhMX3y0OIKfPwyJU=",
	"mac": "BAgkUWv8GrbbswAD1w3xAqofBueOZoGnG3yjd2Iyt60="
}
`
