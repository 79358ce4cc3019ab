module github.com/sealhttp/sealhttp/redisguard

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	github.com/sealhttp/sealhttp v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudflare/circl v1.6.5 // indirect
	github.com/dunglas/httpsfv v1.1.2 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/sealhttp/sealhttp => ../
