package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	vault "github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"google.golang.org/api/option"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// openKEK returns the key-encryption key that a URI names, as Tink writes it. Where
// credentials come from is each library's own rule: see README.md. google are further
// options of Google's, such as another endpoint.
func openKEK(ctx context.Context, uri string, google ...option.ClientOption) (keyring.AEAD, error) {
	var kek keyring.AEAD
	var err error
	switch scheme, name, _ := strings.Cut(uri, ":"); scheme {
	case "file":
		kek, err = keyring.LocalKeyFile(name)
	case "aws-kms":
		kek, err = openAWS(ctx, strings.TrimPrefix(name, "//"))
	case "gcp-kms":
		kek, err = openGoogle(ctx, uri, google)
	case "hcvault":
		kek, err = openVault(uri)
	default:
		err = errors.New("it starts with none of the schemes file, aws-kms, gcp-kms and hcvault")
	}
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key %q: %w", uri, err)
	}
	return kek, nil
}

// openAWS takes the ARN of a symmetric key, or of its alias.
func openAWS(ctx context.Context, arn string) (keyring.AEAD, error) {
	kek, err := awskms.NewAEADWithContext(ctx, arn)
	if err != nil {
		return nil, err
	}
	return tinkkeys.ContextAEAD(kek), nil
}

// openGoogle takes gcp-kms://projects/*/locations/*/keyRings/*/cryptoKeys/*.
func openGoogle(ctx context.Context, uri string, opts []option.ClientOption) (keyring.AEAD, error) {
	kek, err := gcpkms.GetAEADWithContext(ctx, uri, gcpkms.WithGoogleAPIClientOptions(opts...))
	if err != nil {
		return nil, err
	}
	return tinkkeys.ContextAEAD(kek), nil
}

// openVault takes hcvault://HOST:PORT/MOUNT/keys/NAME, a key of the transit engine.
func openVault(uri string) (keyring.AEAD, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	config := vault.DefaultConfig() // VAULT_CACERT and others
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address = "https://" + u.Host
	client, err := vault.NewClient(config) // VAULT_TOKEN, VAULT_NAMESPACE
	if err != nil {
		return nil, err
	}
	// Not hcvault.NewClient, which gives the associated data to Vault in a place where
	// keys that are not derived ignore it: nothing would be bound to its ring and key.
	return hcvault.NewAEAD(u.EscapedPath(), client.Logical())
}
