#include "relay/delivery/resting.hpp"

#include <algorithm>

#include "smtp/reply.hpp"

namespace egret::relay {
namespace {

constexpr std::uint8_t report = 1, strict = 2, ambiguous = 4, warned = 8, sticky_source = 16, sticky_smarthost = 32, other = 64;

constexpr std::size_t longest_text = 2048;  // octets

/// Whether the numbers say all: nobody else holds a part of the message, and the recipients follow one another, as they
/// mostly do.
bool plain(const Job& job) {
  const MessageRef& message = *job.message;
  if (message.poison.load() || job.message.use_count() != 1 || message.size > UINT32_MAX) return false;
  if (job.recipients.empty() || message.open.load() != job.recipients.size()) return false;
  for (std::size_t i = 1; i < job.recipients.size(); ++i)
    if (job.recipients[i] != job.recipients[0] + i) return false;
  return true;
}

/// Of what a server said, the codes: there are few enough of them.
std::string codes_of(const std::string& reply) {
  const smtp::Reply parsed = smtp::parse_reply(reply);
  std::string out = std::to_string(parsed.code);
  if (const auto enhanced = parsed.enhanced()) out += " " + enhanced->to_string();
  return out;
}

}  // namespace

SharedTexts::Handle SharedTexts::keep(const std::string& text, const std::string& shorter, std::size_t limit) {
  if (text.empty()) return 0;
  if (last_ != 0 && texts_[last_].text && *texts_[last_].text == text) {
    ++texts_[last_].users;
    return last_;
  }
  auto it = known_.find(text);
  if (it == known_.end() && known_.size() >= limit) {
    if (shorter.empty()) return 0;
    it = known_.find(shorter);
  }
  if (it == known_.end()) {
    if (texts_.empty()) texts_.emplace_back();  // the empty text
    Handle handle = static_cast<Handle>(texts_.size());
    if (free_.empty()) {
      texts_.emplace_back();
    } else {
      handle = free_.back();
      free_.pop_back();
    }
    it = known_.emplace(known_.size() >= limit ? shorter : text, handle).first;
    texts_[handle].text = &it->first;
  }
  ++texts_[it->second].users;
  return last_ = it->second;
}

void SharedTexts::release(Handle handle) {
  if (handle == 0 || --texts_[handle].users > 0) return;
  known_.erase(known_.find(*texts_[handle].text));
  texts_[handle].text = nullptr;
  free_.push_back(handle);
}

const std::string& SharedTexts::operator[](Handle handle) const {
  static const std::string none;
  return handle == 0 ? none : *texts_[handle].text;
}

void Resting::add(JobPtr job) {
  const std::uint32_t its = job->message->message_class;
  load(std::move(job));
  std::ranges::push_heap(by_class_[its], LaterFirst{});
}

void Resting::load(JobPtr job) {
  Entry entry = entry_of(facts_of(*job));
  const std::uint32_t its = job->message->message_class;
  if (!plain(*job)) {
    entry.flags |= other;
    entry.first = keep_other(*job);
  }
  load(its, entry);
}

void Resting::load(const Facts& facts) {
  load(facts.message_class, entry_of(facts));
}

std::uint32_t Resting::keep_other(Job& job) {
  auto place = static_cast<std::uint32_t>(others_.size());
  if (free_others_.empty()) {
    others_.emplace_back();
  } else {
    place = free_others_.back();
    free_others_.pop_back();
  }
  others_[place] = {std::move(job.message), std::move(job.recipients)};
  others_[place].recipients.shrink_to_fit();
  return place;
}

Resting::Facts Resting::facts_of(const Job& job) {
  return {.id = job.message->id,
          .message_class = job.message->message_class,
          .accepted = job.message->accepted,
          .next_at = job.next_at,
          .size = job.message->size,
          .first = job.recipients.empty() ? 0 : job.recipients.front(),
          .recipients = static_cast<std::uint32_t>(job.recipients.size()),
          .attempts = job.attempts,
          .sticky = job.sticky,
          .report = job.message->report,
          .strict = job.sticky_strict,
          .ambiguous = job.ambiguous,
          .warned = job.warned,
          .reply = job.last_reply,
          .host = job.last_host};
}

void Resting::sort() {
  for (auto& [message_class, heap] : by_class_) std::ranges::make_heap(heap, LaterFirst{});
}

Resting::Entry Resting::entry_of(const Facts& facts) {
  Entry entry;
  entry.id = facts.id;
  entry.next_at = facts.next_at;
  entry.accepted = facts.accepted;
  entry.size = static_cast<std::uint32_t>(facts.size);
  entry.first = facts.first;
  entry.count = facts.recipients;
  entry.attempts = facts.attempts;
  // A reply may have 64 KB: of such a one only the codes are worth the memory.
  const bool whole = facts.reply.size() <= longest_text;
  const std::string codes = whole && replies_.size() < most_texts ? "" : codes_of(facts.reply);
  entry.reply = replies_.keep(whole ? facts.reply : codes, codes, most_texts);
  entry.host = hosts_.keep(facts.host, "", most_texts);
  if (facts.report) entry.flags |= report;
  if (facts.strict) entry.flags |= strict;
  if (facts.ambiguous) entry.flags |= ambiguous;
  if (facts.warned) entry.flags |= warned;
  if (facts.sticky) {
    entry.flags |= facts.sticky->kind == routing::EgressKind::source ? sticky_source : sticky_smarthost;
    entry.egress = facts.sticky->index;
  }
  return entry;
}

std::size_t Resting::size() const {
  std::size_t out = 0;
  for (const auto& [message_class, heap] : by_class_) out += heap.size();
  return out;
}

std::size_t Resting::size(std::uint32_t message_class) const {
  const auto it = by_class_.find(message_class);
  return it == by_class_.end() ? 0 : it->second.size();
}

void Resting::for_each_class(const std::function<void(std::uint32_t, std::size_t)>& visit) const {
  for (const auto& [message_class, heap] : by_class_)
    if (!heap.empty()) visit(message_class, heap.size());
}

routing::Time Resting::next() const {
  routing::Time out = routing::Time::max();
  for (const auto& [message_class, heap] : by_class_)
    if (!heap.empty()) out = std::min(out, heap.front().next_at);
  return out;
}

JobPtr Resting::make(std::uint32_t message_class, const Entry& entry) const {
  auto job = std::make_unique<Job>();
  if (entry.flags & other) {
    job->message = others_[entry.first].message;
    job->recipients = others_[entry.first].recipients;
  } else {
    job->message = std::make_shared<MessageRef>();
    MessageRef& message = *job->message;
    message.id = entry.id;
    message.message_class = message_class;
    message.accepted = entry.accepted;
    message.expires = expires_(message_class, entry.accepted);
    message.size = entry.size;
    message.report = (entry.flags & report) != 0;
    message.open = entry.count;
    job->recipients.resize(entry.count);
    for (std::uint32_t i = 0; i < entry.count; ++i) job->recipients[i] = entry.first + i;
  }
  job->attempts = entry.attempts;
  job->next_at = entry.next_at;
  job->sticky_strict = (entry.flags & strict) != 0;
  job->ambiguous = (entry.flags & ambiguous) != 0;
  job->warned = (entry.flags & warned) != 0;
  job->last_reply = replies_[entry.reply];
  job->last_host = hosts_[entry.host];
  if (entry.flags & sticky_source) job->sticky = {routing::EgressKind::source, entry.egress};
  if (entry.flags & sticky_smarthost) job->sticky = {routing::EgressKind::smarthost, entry.egress};
  return job;
}

void Resting::release(const Entry& entry) {
  replies_.release(entry.reply);
  hosts_.release(entry.host);
  if (!(entry.flags & other)) return;
  others_[entry.first] = {};
  free_others_.push_back(entry.first);
  if (free_others_.size() < others_.size()) return;
  std::deque<Other>().swap(others_);
  std::vector<std::uint32_t>().swap(free_others_);
}

std::vector<JobPtr> Resting::take_due(routing::Time time, std::size_t most, const std::function<bool(std::uint32_t)>& wanted) {
  std::vector<JobPtr> out;
  for (auto& [message_class, heap] : by_class_) {
    if (heap.empty() || heap.front().next_at > time || !wanted(message_class)) continue;
    for (std::size_t n = 0; n < most && !heap.empty() && heap.front().next_at <= time; ++n) {
      std::ranges::pop_heap(heap, LaterFirst{});
      out.push_back(make(message_class, heap.back()));
      release(heap.back());
      heap.pop_back();
    }
    if (heap.empty()) heap.shrink_to_fit();
  }
  return out;
}

void Resting::each(const std::function<void(const Row&)>& visit) const {
  for (const auto& [message_class, heap] : by_class_)
    for (const Entry& entry : heap)
      visit({entry.id, message_class, entry.accepted, entry.next_at, entry.attempts, entry.count, replies_[entry.reply]});
}

std::vector<JobPtr> Resting::copies_of(smtp::MessageId id) const {
  std::vector<JobPtr> out;
  for (const auto& [message_class, heap] : by_class_)
    for (const Entry& entry : heap)
      if (entry.id == id) out.push_back(make(message_class, entry));
  return out;
}

void Resting::for_each_job(const std::function<void(const Job&)>& visit) const {
  for (const auto& [message_class, heap] : by_class_)
    for (const Entry& entry : heap) visit(*make(message_class, entry));
}

void Resting::erase_if(const std::function<bool(JobPtr&)>& visit, std::vector<JobPtr>& changed) {
  for (auto& [message_class, heap] : by_class_) {
    const std::size_t gone = std::erase_if(heap, [&, of = message_class](const Entry& entry) {
      JobPtr job = make(of, entry);
      const bool taken = visit(job);
      if (!taken && job->recipients.size() == entry.count) return false;
      if (!taken) changed.push_back(std::move(job));
      release(entry);
      return true;
    });
    if (gone > 0) std::ranges::make_heap(heap, LaterFirst{});
  }
}

}  // namespace egret::relay
