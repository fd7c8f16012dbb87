package watch

import (
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// emptyHash is the SHA-256 of nothing, the body of a GET.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// SignV4 signs requests as the AWS SDK signs calls of Cloud Map, for
// [Client.Sign].
func SignV4(credentials aws.CredentialsProvider, region string) func(*http.Request) error {
	return func(r *http.Request) error {
		c, err := credentials.Retrieve(r.Context())
		if err != nil {
			return err
		}
		return v4.NewSigner().SignHTTP(r.Context(), c, r, emptyHash, "servicediscovery", region, time.Now())
	}
}
