package cloudmap

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// TagMap is a request's tags, which Check has looked at, by key.
func TagMap(tags []Tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = *t.Value
	}
	return m
}

// TagList is the tags of an answer, sorted by key.
func TagList(m map[string]string) []Tag {
	tags := []Tag{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := m[k]
		tags = append(tags, Tag{Key: k, Value: &v})
	}
	return tags
}

// TagResourceRequest is that of TagResource.
type TagResourceRequest struct {
	ResourceARN string
	Tags        []Tag
}

// Check lists what is wrong with r.
func (r *TagResourceRequest) Check(p *Problems) {
	p.required("resourceARN", r.ResourceARN, resourceARN)
	if r.Tags == nil {
		p.null("tags")
	}
	checkTags(p, r.Tags)
}

func checkTags(p *Problems, tags []Tag) {
	p.size("tags", len(tags), 0, 200)
	seen := map[string]bool{}
	for i, t := range tags {
		at := fmt.Sprintf("tags.%d.member", i+1)
		p.required(at+".key", t.Key, tagKey)
		if strings.HasPrefix(t.Key, "aws:") {
			p.fails(at+".key", t.Key, "Member must not start with aws:, which is reserved")
		}
		if seen[t.Key] {
			p.fails(at+".key", t.Key, "Member must be unique among the keys")
		}
		seen[t.Key] = true
		if t.Value == nil {
			p.null(at + ".value")
		} else {
			p.text(at+".value", *t.Value, tagValue)
		}
	}
}

// UntagResourceRequest is that of UntagResource.
type UntagResourceRequest struct {
	ResourceARN string
	TagKeys     []string
}

// Check lists what is wrong with r.
func (r *UntagResourceRequest) Check(p *Problems) {
	p.required("resourceARN", r.ResourceARN, resourceARN)
	if r.TagKeys == nil {
		p.null("tagKeys")
	}
	p.size("tagKeys", len(r.TagKeys), 0, 200)
	for i, k := range r.TagKeys {
		p.required(fmt.Sprintf("tagKeys.%d.member", i+1), k, tagKey)
	}
}

// ListTagsRequest is that of ListTagsForResource.
type ListTagsRequest struct{ ResourceARN string }

// Check lists what is wrong with r.
func (r *ListTagsRequest) Check(p *Problems) {
	p.required("resourceARN", r.ResourceARN, resourceARN)
}

// ListTagsResponse answers ListTagsForResource.
type ListTagsResponse struct{ Tags []Tag }

// Empty answers the operations that have nothing to say.
type Empty struct{}
