package redisguard_test

import (
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/redisguard"
	"github.com/sealhttp/sealhttp/seal"
)

// The replicas of a service have a key in common, and share a guard.
func Example() {
	key, err := seal.GenerateKey(seal.X25519AES256GCM) // see package keyring for a shared one
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"redis:6379"}})
	defer client.Close()
	guard, err := redisguard.New(client, redisguard.WithPrefix("payments:"))
	if err != nil {
		log.Fatal(err)
	}
	m, err := sealhttp.New(ring, sealhttp.WithReplayGuard(guard))
	if err != nil {
		log.Fatal(err)
	}
	_ = m.Handler
}
