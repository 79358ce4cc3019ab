package keyring_test

// sample is what was stored of a ring with keys in every state.
const sample = `{
	"format": "sealhttp keyring",
	"version": 1,
	"ring": "default",
	"revision": 7,
	"serial": 946699201,
	"write": "0PlgYK2ST+zJEyiw",
	"keys": [
		{
			"id": 77984423,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "primary",
			"fingerprint": "46763-20426-34180-63467-03686-22328-37214-15581",
			"created": "2000-01-01T02:00:00.000000001Z",
			"promoted": "2000-01-01T04:00:00.000000001Z",
			"public": "0JguYuG8qAKlVSdgo4Li2DG0pzOQfQ7wi6GT+r1qMWY=",
			"private": "k+Tm+LtaYu5cjlC0zhVcfULysBHA18KPHtvIaBHqmkWnXODGWwngvwFP1Yz0VagEc++pimpcqiu4tXeg"
		},
		{
			"id": 862753381,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "pending",
			"fingerprint": "61972-54825-31978-14524-35957-65361-60509-62959",
			"created": "2000-01-01T04:00:00.000000002Z",
			"public": "Fl98CsukEZrSJWOdf+6mARm2nL1UZcl+xN/JDrvHRmo=",
			"private": "+39NmKtyVyJP1GgoUT/5xLQcWsdE28uuHF9t/HNb7YnzTGsi2I9IRsnlFMHgEPGaqx+pb6OGzVXJENkf"
		},
		{
			"id": 2018612153,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "previous",
			"fingerprint": "52568-24415-60896-45163-21352-01958-52539-18442",
			"created": "2000-01-01T00:00:00Z",
			"promoted": "2000-01-01T02:00:00Z",
			"replaced": "2000-01-01T04:00:00.000000001Z",
			"public": "Vqsd99iElLqTh6m0YoxdV/FkOlaRmpgb+bweBnUgjkk=",
			"private": "NOUVl3/gWy7ewJePOKpu6s5waUDLKxeC/+dUedl2+/DzvZfMxi2JNTDukGg0/pflam1Li4558Vmlo25l"
		},
		{
			"id": 3259857955,
			"suite": "X25519-AES256GCM",
			"prefix": true,
			"state": "retired",
			"fingerprint": "46505-40087-33689-15576-29472-03502-03459-35194",
			"created": "2000-01-01T00:00:00Z",
			"promoted": "2000-01-01T00:00:00Z",
			"replaced": "2000-01-01T02:00:00Z",
			"retired": "2000-01-01T02:00:00.000000001Z",
			"revoked": true
		}
	],
	"integrity_key": "PuIngqgZtk3dgrdV431H2G44sT7Bh/qCcEPS5ik9lWWiAGFJ0iRt7ISWMiyEtBH6/TyY1lf6dSpR3sW+",
	"mac": "9xfM69aELSCSOxv79EGL5cOWKLdzy3g+kdmwd8GPoZ8="
}
`
