// Work on many waiting jobs at once: an egress left service or came back, a destination could not be reached, a sender is
// free again. A hundred thousand jobs take a second to decide, and the worker's loop must serve others meanwhile: so they
// are moved aside in one go and worked on in slices, the classes by weight.
#include <algorithm>

#include "relay/delivery/dispatcher.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

constexpr auto slice_time = 300us;
constexpr auto slice_pause = 1ms;          // for everybody else on the loop
constexpr std::size_t offers_at_once = 8;  // held jobs of a kind, before the next kind has its turn
constexpr std::size_t most_stuck = 8;      // offered again in vain before the rest of their kind waits on
constexpr auto stuck_pause = 5s;           // for so long, when no other time is known

}  // namespace

/// Does a slice at once, so that few jobs need no timer, and the rest in later ones.
void Dispatcher::work() {
  if (working_ || stopping_) return;
  working_ = true;
  if (!slice()) {
    working_ = false;
    return;
  }
  slices_.expires_after(slice_pause);
  slices_.async_wait([this](const boost::system::error_code& error) {
    working_ = false;
    if (!error) work();
  });
}

/// True when something is left.
bool Dispatcher::slice() {
  const Deadline until = in(slice_time);
  while (step())
    if (std::chrono::steady_clock::now() >= until) return true;
  return false;
}

/// One job of each kind of work; false when there is none.
bool Dispatcher::step() {
  bool worked = false;
  if (auto job = again_.pop()) {
    worked = true;
    release_trial(**job);
    give_back(**job, 0);
    if (now() >= (*job)->message->expires)
      fail(std::move(*job), {}, "", "");
    else if ((*job)->site)
      dispatch(std::move(*job));
    else
      prepare_again(std::move(*job));
  }
  if (auto job = next_released()) {
    worked = true;
    release_job(std::move(*job));
    pump();
  }
  if (!unreached_.empty()) {
    worked = true;
    Unreached& group = unreached_.front();
    auto job = group.jobs.pop();
    if (job)
      conclude(std::move(*job), group.result);
    else
      unreached_.pop_front();
    // The next step is for another destination.
    if (unreached_.size() > 1) unreached_.splice(unreached_.end(), unreached_, unreached_.begin());
  }
  if (!offers_.empty()) {
    worked = true;
    offer_next();
  }
  return worked;
}

void Dispatcher::empty_lane(Lane& lane, JobQueue& into) {
  lane.ready.for_each_class([this](std::uint32_t message_class, std::size_t jobs) { load_of(message_class).ready -= jobs; });
  into.splice(lane.ready);
  if (lane.waiting) lane.waiting->cancel();
}

/// Offers held mail again: one job of each kind finds out for all of them.
void Dispatcher::release_held() {
  if (stopping_ || !snapshot_) return;
  for (auto& [key, group] : held_) offer(key, group);
  work();
  arm();
}

void Dispatcher::offer(const HeldKey& key, HeldJobs& group) {
  if (group.until && *group.until <= now()) group.until.reset();
  group.to_offer = group.jobs.size();
  group.stuck = 0;
  if (!std::exchange(group.offering, true)) offers_.push_back(key);
}

/// Offers the next few jobs of the next kind.
void Dispatcher::offer_next() {
  const HeldKey key = std::move(offers_.front());
  offers_.pop_front();
  for (std::size_t n = 0; n < offers_at_once; ++n) {
    const auto it = held_.find(key);
    if (it == held_.end()) return;
    HeldJobs& group = it->second;
    if (group.empty()) {
      held_.erase(it);
      return;
    }
    // Those that are put away follow by and by (parking.cpp).
    if (group.jobs.empty() || group.to_offer == 0 || group.stuck >= most_stuck) {
      // Those behind the stuck ones, which are the last now, are offered in a moment: nothing else may tell of them.
      if (group.stuck >= most_stuck) group.until = std::min(group.until.value_or(routing::Time::max()), now() + stuck_pause);
      group.offering = false;
      return arm_at(group.hungry() ? now() : group.until.value_or(group.next_expiry()));
    }
    --group.to_offer;
    JobPtr job = std::move(*group.jobs.pop());
    routing::Request request;
    request.pool = key.pool;
    request.provider = key.provider;
    request.site = job->site->key;
    request.ipv4 = key.ipv4;
    request.ipv6 = key.ipv6;
    if (key.sender) request.sender = *key.sender;
    if (key.sticky >= 0)
      (key.sticky % 2 ? request.only_smarthost : request.only_source) = static_cast<std::uint32_t>(key.sticky / 2);
    const routing::Route route = routing::route(shared_.config->topology, *snapshot_, request, now(), random_());
    if (route.hold && now() < job->message->expires) {
      group.reason = route.hold->reason;
      group.until = route.hold->until;
      push(group.jobs, std::move(job), true);
      group.offering = false;
      return arm_at(group.until.value_or(group.next_expiry()));
    }
    const std::size_t before = group.size();
    job->called = true;  // it is not put away again
    dispatch(std::move(job));
    // Held again, because the one place was taken (a trial): the others would be too. Or for a reason of its own (its
    // size): a few may stand in the way of the rest, and they are at the end now.
    if (const auto after = held_.find(key); after != held_.end() && after->second.size() > before) ++after->second.stuck;
  }
  offers_.push_back(key);
}

/// Mail that waits for a connection of an egress that is out of service by now takes another way. So does what waits for
/// a smarthost that refuses other senders, or for which others are not ready, than in the snapshot `before`: each is decided
/// anew, most to stay.
void Dispatcher::reroute_lanes(const routing::Snapshot* before) {
  if (stopping_) return;
  for (auto& [key, lane] : lanes_) {
    if (lane->ready.empty()) continue;
    if (key.egress.kind == routing::EgressKind::source) {
      if (shared_.config->topology.observe ||
          routing::in_service(snapshot_->sources[key.egress.index].with(lane->site->provider).standing))
        continue;
    } else {
      const routing::SmarthostSnapshot& host = snapshot_->smarthosts[key.egress.index];
      const bool rests = host.resting_until && now() < *host.resting_until;
      const auto changed = [&](const routing::SmarthostSnapshot& was) {
        return was.senders != host.senders || was.unready != host.unready || was.unready_allowed != host.unready_allowed;
      };
      const bool others = before && key.egress.index < before->smarthosts.size() && changed(before->smarthosts[key.egress.index]);
      if (!rests && !others) continue;
    }
    empty_lane(*lane, again_);
  }
  work();
}

}  // namespace egret::relay
