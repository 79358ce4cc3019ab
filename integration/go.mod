module github.com/sealhttp/sealhttp/integration

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/sealhttp/sealhttp v0.0.0
	github.com/sealhttp/sealhttp/redisguard v0.0.0
	github.com/sealhttp/sealhttp/sqlstore v0.0.0
	github.com/tink-crypto/tink-go/v2 v2.9.0
	golang.org/x/net v0.56.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
)

require (
	github.com/cloudflare/circl v1.6.5 // indirect
	github.com/dunglas/httpsfv v1.1.2 // indirect
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.41.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)

replace (
	github.com/sealhttp/sealhttp => ../
	github.com/sealhttp/sealhttp/redisguard => ../redisguard
	github.com/sealhttp/sealhttp/sqlstore => ../sqlstore
)
