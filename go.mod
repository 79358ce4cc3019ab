module github.com/sealhttp/sealhttp

go 1.26

require (
	github.com/cloudflare/circl v1.6.5
	golang.org/x/crypto v0.54.0
)

require (
	github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
