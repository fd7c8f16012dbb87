package cloudmap

import (
	"fmt"
	"strconv"
)

// Statuses of an operation.
const (
	Submitted = "SUBMITTED"
	Pending   = "PENDING"
	Success   = "SUCCESS"
	Fail      = "FAIL"
	// Succeed is how AWS's reference calls Success where operations are
	// filtered by status.
	Succeed = "SUCCEED"
)

// Types of an operation.
const (
	CreateNamespace    = "CREATE_NAMESPACE"
	DeleteNamespace    = "DELETE_NAMESPACE"
	UpdateNamespace    = "UPDATE_NAMESPACE"
	UpdateService      = "UPDATE_SERVICE"
	RegisterInstance   = "REGISTER_INSTANCE"
	DeregisterInstance = "DEREGISTER_INSTANCE"
)

// Targets of an operation: the keys of Operation.Targets.
const (
	TargetNamespace = "NAMESPACE"
	TargetService   = "SERVICE"
	TargetInstance  = "INSTANCE"
)

// Operation is one in an answer.
type Operation struct {
	ID           string `json:"Id"`
	OwnerAccount string
	Type         string
	Status       string
	ErrorMessage string `json:",omitempty"`
	ErrorCode    string `json:",omitempty"`
	CreateDate   Time
	UpdateDate   Time
	Targets      map[string]string
}

// GetOperationRequest is that of GetOperation.
type GetOperationRequest struct {
	OperationID  string `json:"OperationId"`
	OwnerAccount string
}

// Check lists what is wrong with r.
func (r *GetOperationRequest) Check(p *Problems) {
	p.required("operationId", r.OperationID, operationID)
	p.optional("ownerAccount", r.OwnerAccount, accountID)
}

// GetOperationResponse answers GetOperation.
type GetOperationResponse struct{ Operation Operation }

// ListOperationsRequest is that of ListOperations.
type ListOperationsRequest struct {
	Page
	Filters []Filter
}

// Check lists what is wrong with r.
func (r *ListOperationsRequest) Check(p *Problems) {
	r.Page.check(p)
	either := []string{"EQ", "IN"}
	checkFilters(p, r.Filters, conditions{
		"NAMESPACE_ID": {"EQ"}, "SERVICE_ID": {"EQ"}, "STATUS": either, "TYPE": either, "UPDATE_DATE": {"BETWEEN"},
	})
	for i, f := range r.Filters {
		for j, v := range f.Values {
			at := fmt.Sprintf("filters.%d.member.values.%d.member", i+1, j+1)
			switch f.Name {
			case "STATUS":
				p.enum(at, v, Submitted, Pending, Success, Succeed, Fail)
			case "TYPE":
				p.enum(at, v, CreateNamespace, DeleteNamespace, UpdateNamespace, UpdateService, RegisterInstance, DeregisterInstance)
			case "UPDATE_DATE":
				if _, err := strconv.ParseFloat(v, 64); err != nil {
					p.fails(at, v, "Member must be a date in epoch seconds")
				}
			}
		}
	}
}

// OperationSummary is an operation in a list.
type OperationSummary struct {
	ID     string `json:"Id"`
	Status string
}

// ListOperationsResponse answers ListOperations.
type ListOperationsResponse struct {
	Operations []OperationSummary
	NextToken  string `json:",omitempty"`
}
