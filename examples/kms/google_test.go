package main

import (
	"context"
	"hash/crc32"
	"net"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const googleKeys = "projects/test/locations/global/keyRings/sealhttp/cryptoKeys/"

// googleKMS is Google Cloud KMS on loopback, over gRPC as the real one.
func googleKMS(t *testing.T) *fake {
	h := newHSM(t, googleKeys+"one", googleKeys+"two")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, &googleServer{hsm: h})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return &fake{hsm: h, name: googleKeys + "one", kek: "gcp-kms://" + googleKeys + "one", other: "gcp-kms://" + googleKeys + "two",
		google: []option.ClientOption{
			option.WithEndpoint(listener.Addr().String()),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}}
}

// googleServer answers Encrypt and Decrypt, with checksums:
// https://cloud.google.com/kms/docs/reference/rpc/google.cloud.kms.v1
type googleServer struct {
	kmspb.UnimplementedKeyManagementServiceServer
	hsm *hsm
}

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
}

func (s *googleServer) Encrypt(_ context.Context, in *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	version, ciphertext, err := s.hsm.encrypt(in.GetName(), in.GetPlaintext(), in.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, googleError(err)
	}
	ciphertext = append([]byte{byte(version)}, ciphertext...)
	return &kmspb.EncryptResponse{
		Name:                    in.GetName() + "/cryptoKeyVersions/1",
		Ciphertext:              ciphertext,
		CiphertextCrc32C:        checksum(ciphertext),
		VerifiedPlaintextCrc32C: in.GetPlaintextCrc32C().GetValue() == checksum(in.GetPlaintext()).GetValue(),
		VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (s *googleServer) Decrypt(_ context.Context, in *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	ciphertext := in.GetCiphertext()
	if len(ciphertext) == 0 {
		return nil, googleError(errCiphertext)
	}
	plaintext, err := s.hsm.decrypt(in.GetName(), int(ciphertext[0]), ciphertext[1:], in.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, googleError(err)
	}
	return &kmspb.DecryptResponse{Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext)}, nil
}

func googleError(err error) error {
	code := map[error]codes.Code{errDenied: codes.PermissionDenied, errNoSuchKey: codes.NotFound, errCiphertext: codes.InvalidArgument}[err]
	return status.Error(code, err.Error())
}
