package secrets

import (
	"encoding/json"

	"patchbay/internal/awsfake/wire"
)

// The shapes of the API. What the stand-in does not act upon is raw.

type tag struct{ Key, Value string }

type createIn struct {
	AddReplicaRegions           json.RawMessage `json:",omitempty"`
	ClientRequestToken          string
	Description                 string `json:",omitempty"`
	ForceOverwriteReplicaSecret bool   `json:",omitempty"`
	KmsKeyId                    string `json:",omitempty"` //nolint:revive // AWS's name
	Name                        string
	SecretBinary                []byte  `json:",omitempty"`
	SecretString                *string `json:",omitempty"`
	Tags                        []tag   `json:",omitempty"`
	Type                        string  `json:",omitempty"`
}

type createOut struct {
	ARN, Name         string
	ReplicationStatus json.RawMessage `json:",omitempty"`
	VersionId         string          `json:",omitempty"` //nolint:revive // AWS's name
}

type putIn struct {
	ClientRequestToken string
	RotationToken      string `json:",omitempty"`
	SecretBinary       []byte `json:",omitempty"`
	SecretId           string //nolint:revive // AWS's name
	SecretString       *string
	VersionStages      []string `json:",omitempty"`
}

type putOut struct {
	ARN, Name, VersionId string
	VersionStages        []string
}

type moveIn struct {
	MoveToVersionId, RemoveFromVersionId string `json:",omitempty"`
	SecretId, VersionStage               string
}

type named struct{ ARN, Name string }

type getIn struct {
	SecretId                string //nolint:revive // AWS's name
	VersionId, VersionStage string `json:",omitempty"`
}

type getOut struct {
	ARN, Name     string
	CreatedDate   *wire.Time
	SecretBinary  []byte  `json:",omitempty"`
	SecretString  *string `json:",omitempty"`
	VersionId     string  //nolint:revive // AWS's name
	VersionStages []string
}

type idOnly struct{ SecretId string } //nolint:revive // AWS's name

type describeOut struct {
	ARN, Name                      string
	CreatedDate, LastChangedDate   *wire.Time          `json:",omitempty"`
	DeletedDate, LastAccessedDate  *wire.Time          `json:",omitempty"`
	LastRotatedDate                *wire.Time          `json:",omitempty"`
	NextRotationDate               *wire.Time          `json:",omitempty"`
	Description, KmsKeyId          string              `json:",omitempty"`
	ExternalSecretRotationMetadata json.RawMessage     `json:",omitempty"`
	ExternalSecretRotationRoleArn  string              `json:",omitempty"`
	OwningService, PrimaryRegion   string              `json:",omitempty"`
	ReplicationStatus              json.RawMessage     `json:",omitempty"`
	RotationEnabled                *bool               `json:",omitempty"`
	RotationLambdaARN              string              `json:",omitempty"`
	RotationRules                  json.RawMessage     `json:",omitempty"`
	Tags                           []tag               `json:",omitempty"`
	Type                           string              `json:",omitempty"`
	VersionIdsToStages             map[string][]string `json:",omitempty"`
}

type versionsIn struct {
	IncludeDeprecated *bool  `json:",omitempty"`
	MaxResults        int    `json:",omitempty"`
	NextToken         string `json:",omitempty"`
	SecretId          string //nolint:revive // AWS's name
}

type versionEntry struct {
	CreatedDate      *wire.Time
	KmsKeyIds        []string   `json:",omitempty"`
	LastAccessedDate *wire.Time `json:",omitempty"`
	VersionId        string     //nolint:revive // AWS's name
	VersionStages    []string   `json:",omitempty"`
}

type versionsOut struct {
	ARN, Name string
	NextToken string `json:",omitempty"`
	Versions  []versionEntry
}

type filter struct {
	Key    string
	Values []string
}

type listIn struct {
	Filters                      []filter `json:",omitempty"`
	IncludePlannedDeletion       bool     `json:",omitempty"`
	MaxResults                   int      `json:",omitempty"`
	NextToken, SortBy, SortOrder string   `json:",omitempty"`
}

type listed struct {
	ARN, Name                      string
	CreatedDate, LastChangedDate   *wire.Time          `json:",omitempty"`
	DeletedDate, LastAccessedDate  *wire.Time          `json:",omitempty"`
	LastRotatedDate                *wire.Time          `json:",omitempty"`
	NextRotationDate               *wire.Time          `json:",omitempty"`
	Description, KmsKeyId          string              `json:",omitempty"`
	ExternalSecretRotationMetadata json.RawMessage     `json:",omitempty"`
	ExternalSecretRotationRoleArn  string              `json:",omitempty"`
	OwningService, PrimaryRegion   string              `json:",omitempty"`
	RotationEnabled                *bool               `json:",omitempty"`
	RotationLambdaARN              string              `json:",omitempty"`
	RotationRules                  json.RawMessage     `json:",omitempty"`
	SecretVersionsToStages         map[string][]string `json:",omitempty"`
	Tags                           []tag               `json:",omitempty"`
	Type                           string              `json:",omitempty"`
}

type listOut struct {
	NextToken  string `json:",omitempty"`
	SecretList []listed
}

type updateIn struct {
	ClientRequestToken    string
	Description, KmsKeyId string `json:",omitempty"`
	SecretBinary          []byte `json:",omitempty"`
	SecretId              string //nolint:revive // AWS's name
	SecretString          *string
	Type                  string `json:",omitempty"`
}

type updateOut struct {
	ARN, Name string
	VersionId string `json:",omitempty"` //nolint:revive // AWS's name
}

type removeIn struct {
	ForceDeleteWithoutRecovery *bool  `json:",omitempty"`
	RecoveryWindowInDays       int64  `json:",omitempty"`
	SecretId                   string //nolint:revive // AWS's name
}

type removeOut struct {
	ARN          string
	DeletionDate *wire.Time
	Name         string
}

type tagIn struct {
	SecretId string //nolint:revive // AWS's name
	Tags     []tag
}

type untagIn struct {
	SecretId string //nolint:revive // AWS's name
	TagKeys  []string
}

type nothing struct{}
