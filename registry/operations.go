package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
)

// submission is a request for an asynchronous operation.
type submission struct {
	of      string // the operation's type
	token   string // CreatorRequestId or UpdaterRequestId
	scope   string // tells requests of one type apart, where tokens of one must not answer another
	request any    // what a token stands for
	lock    string // what only one unfinished operation may work on
}

// submit accepts an operation: prepare checks the request against the state,
// and fills in the targets and what is to be done. Asked again with the same
// token, it answers as it did the first time.
func (s *Server) submit(sub submission, prepare func(*state.Tx, *state.Operation) error) (*cloudmap.OperationStarted, error) {
	id, err := uuid.NewV7() // grows with time, so that the oldest come first
	if err != nil {
		return nil, fmt.Errorf("make an operation's id: %w", err)
	}
	at := now()
	o := &state.Operation{ID: strings.ReplaceAll(id.String(), "-", ""), Type: sub.of, Created: at, Due: at.Add(s.o.OperationDelay), Lock: sub.lock}
	if sub.token != "" {
		text, err := json.Marshal(sub.request)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		sum := sha256.Sum256(text)
		o.Token, o.TokenHash = sub.of+"/"+sub.scope+"/"+sub.token, hex.EncodeToString(sum[:])
	}
	out := &cloudmap.OperationStarted{OperationID: o.ID}
	return out, s.db.Update(func(tx *state.Tx) error {
		if o.Token != "" {
			if old := tx.Replayed(o.Token); old != nil && old.TokenHash != o.TokenHash {
				return cloudmap.InvalidInput("The request id %s was used for another request: operation %s.", sub.token, old.ID)
			} else if old != nil {
				out.OperationID = old.ID
				return nil
			}
		}
		if busy := tx.Holder(sub.lock); busy != nil {
			return cloudmap.DuplicateRequest(sub.lock, busy.ID)
		}
		if err := prepare(tx, o); err != nil {
			return err
		}
		tx.Operations.Put(o.ID, o)
		tx.After(s.poke)
		return nil
	})
}

// carry writes down what an operation is to do.
func carry(o *state.Operation, what any) (err error) {
	o.Payload, err = json.Marshal(what)
	return err
}

// progress is an operation's status, and since when.
func progress(o *state.Operation, at time.Time) (string, time.Time) {
	half := o.Created.Add(o.Due.Sub(o.Created) / 2)
	switch {
	case o.Done() && o.ErrorCode != "":
		return cloudmap.Fail, o.Finished
	case o.Done():
		return cloudmap.Success, o.Finished
	case at.After(half):
		return cloudmap.Pending, half
	default:
		return cloudmap.Submitted, o.Created
	}
}

func (s *Server) getOperation(in *cloudmap.GetOperationRequest) (*cloudmap.GetOperationResponse, error) {
	out := &cloudmap.GetOperationResponse{}
	return out, s.view(func(v *state.View) error {
		o := v.Operation(in.OperationID)
		if o == nil || !s.ours(in.OwnerAccount) {
			return cloudmap.OperationNotFound(in.OperationID)
		}
		status, since := progress(o, time.Now())
		out.Operation = cloudmap.Operation{
			ID: o.ID, OwnerAccount: s.o.Account, Type: o.Type, Status: status, ErrorCode: o.ErrorCode, ErrorMessage: o.ErrorText,
			CreateDate: cloudmap.Time(o.Created), UpdateDate: cloudmap.Time(since), Targets: o.Targets,
		}
		return nil
	})
}

func (s *Server) listOperations(in *cloudmap.ListOperationsRequest) (*cloudmap.ListOperationsResponse, error) {
	at := time.Now()
	for _, f := range in.Filters {
		for i, v := range f.Values {
			switch f.Name {
			case "NAMESPACE_ID":
				f.Values[i] = plainID(kindNamespace, v)
			case "SERVICE_ID":
				f.Values[i] = plainID(kindService, v)
			case "STATUS":
				if v == cloudmap.Succeed {
					f.Values[i] = cloudmap.Success
				}
			}
		}
	}
	out := &cloudmap.ListOperationsResponse{}
	return out, s.view(func(v *state.View) (err error) {
		out.Operations, out.NextToken, err = page(v.Operations(), in.Page, func(o *state.Operation) (cloudmap.OperationSummary, bool) {
			status, since := progress(o, at)
			return cloudmap.OperationSummary{ID: o.ID, Status: status}, cloudmap.Match(in.Filters, func(name string) string {
				return map[string]string{
					"NAMESPACE_ID": o.Namespace, "SERVICE_ID": o.Service, "STATUS": status, "TYPE": o.Type,
					"UPDATE_DATE": strconv.FormatFloat(float64(since.UnixMilli())/1000, 'f', 3, 64),
				}[name]
			})
		})
		return err
	})
}
