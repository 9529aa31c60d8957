// The delivery side of one worker: what waits, what is due, and the connections out.
//
// Every job lives on exactly one dispatcher: the one that owns its site (or its smarthost), so that queues, connection
// limits and connection reuse need no lock. Jobs move between dispatchers by posting.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "relay/delivery/class_weights.hpp"
#include "relay/delivery/closed.hpp"
#include "relay/delivery/connection.hpp"
#include "relay/delivery/connection_slots.hpp"
#include "relay/delivery/held_jobs.hpp"
#include "relay/delivery/history.hpp"
#include "relay/delivery/job.hpp"
#include "relay/delivery/resting.hpp"
#include "relay/delivery/selector.hpp"
#include "relay/delivery/shared.hpp"
#include "relay/dns/sites.hpp"
#include "relay/runtime/task_group.hpp"
#include "smtp/dsn.hpp"

namespace egret::relay {

/// What cannot be read from the spool is tried again after this time.
inline constexpr auto unreadable_pause = std::chrono::minutes(5);

/// The reason of a hold that the operator asked for.
inline constexpr std::string_view held_by_operator = "held by the operator";

/// A job as the queue listing shows it.
struct QueueRow {
  smtp::MessageId id{};
  std::uint32_t message_class = 0;
  std::string site;
  std::string egress;
  std::string state;  ///< ready, active, scheduled, held
  routing::Time accepted{};
  routing::Time next_at{};
  std::uint32_t attempts = 0;
  std::uint32_t recipients = 0;
  std::string sender;
  std::string reason;
};

/// What waits of a message, as the explanation of its route needs it.
struct WaitingJob {
  std::string state;  ///< ready, active, scheduled, held
  std::uint32_t message_class = 0;
  std::uint64_t size = 0;
  std::vector<std::uint32_t> recipients;  ///< indices into the message's
  std::uint32_t attempts = 0;
  routing::Time next_at{};
  std::optional<routing::EgressRef> sticky;  ///< the egress it keeps to
  bool sticky_strict = false;
  std::vector<routing::Excluded> tried;  ///< in this round
  bool holds_trial = false;
  std::string last_reply;
};

struct QueueSummary {
  std::uint64_t total = 0;
  std::uint64_t held = 0;
  std::map<std::uint32_t, std::uint64_t> by_class;
  std::map<std::string, std::uint64_t> by_site;
  std::map<std::string, std::uint64_t> by_egress;
  std::optional<routing::Time> oldest;
  std::vector<QueueRow> rows;
};

struct QueueFilter {
  std::size_t limit = 100;
  std::optional<std::uint32_t> message_class;
  std::string state;
};

enum class QueueAction { retry, hold, release, cancel };

struct QueueCommand {
  QueueAction action = QueueAction::retry;
  Selector selector;
  bool bounce = false;                   ///< cancel: the sender gets a DSN
  std::string reason{held_by_operator};  ///< of a hold
};

/// Messages by id; one may be in several lists, and in a list more than once.
struct QueueChanges {
  std::vector<smtp::MessageId> matched;
  std::vector<smtp::MessageId> changed;
  std::vector<smtp::MessageId> busy;       ///< being delivered right now: not touched
  std::vector<smtp::MessageId> undecided;  ///< not touched: it could not be found out whether the selector fits
};

class Dispatcher {
 public:
  Dispatcher(const boost::asio::any_io_executor& executor, std::uint32_t index, DeliveryShared& shared, Deadlines& deadlines);
  ~Dispatcher();

  /// All of them, in order, this one included. Called once before anything else.
  void connect(std::vector<Dispatcher*> all);
  const boost::asio::any_io_executor& executor() const { return executor_; }

  /// A message that was just made durable, or one whose client waits for what becomes of it. On this worker's thread.
  void submit(std::shared_ptr<const spool::Message> message, std::shared_ptr<PassThrough> pass = nullptr);
  /// The recipients that a message on its way through left over are made durable and become Egret's: the deferred
  /// ones are tried again, the failed ones reported. On this worker's thread.
  boost::asio::awaitable<spool::Trouble> take_over(std::shared_ptr<const spool::Message> message, std::vector<Settled> results,
                                                   PassThroughAnswer answer);
  /// A message that was waiting when the program started. Before the threads run.
  void recover(const spool::Recovered& message);
  /// Starts what recover() left. On this worker's thread.
  void start();
  void set_snapshot(std::shared_ptr<const routing::Snapshot> snapshot);
  /// The configuration in DeliveryShared is another: whatever waits is routed under it. A snapshot that covers its
  /// sources was set before. On this worker's thread.
  void configure();
  /// Starts nothing new; finishes what is in flight until `deadline`, then breaks it off.
  boost::asio::awaitable<void> stop(Deadline deadline);

  /// What is here, for the API.
  QueueSummary queue(const QueueFilter& filter) const;
  std::optional<MessageHistory> history(smtp::MessageId id) const { return history_.find(id); }
  /// The route that a message to `domain` would take now. `job` is what waits of a message, none for one that is not here.
  /// `sender` is the domain of the envelope sender, where it is known.
  boost::asio::awaitable<std::pair<routing::Route, SiteAnswer>> explain(std::string domain, std::uint32_t pool,
                                                                        std::optional<WaitingJob> job = {},
                                                                        std::optional<std::string> sender = {});
  /// What is here of a message.
  std::vector<WaitingJob> jobs_of(smtp::MessageId id) const;
  /// Does what an operator asks for with the waiting mail of this worker that the selector fits (selection.cpp).
  boost::asio::awaitable<QueueChanges> command(QueueCommand command);
  /// The job is not tried until release_job(), whatever the standings say; only max_age ends it before. `reason` is for
  /// people and shown in the queue: "held by the operator", "sender x is held". A `durable` hold survives a restart
  /// (it is on disk within spool::Options::lazy_sync). A client that waits for the verdict is told 451 with the reason.
  /// On this worker's thread; the job must be in no queue and on no connection.
  void hold_job(JobPtr job, const std::string& reason, bool durable);
  /// Mail of a sender who is held no more. On this worker's thread.
  void release_sender(const std::string& sender);
  /// The user was suspended (relay/brakes): what waits of his mail is held. On this worker's thread.
  void hold_user(const std::string& user, const std::string& reason);
  /// He may send again. On this worker's thread.
  void release_user(const std::string& user);

 private:
  struct Lane;
  struct LaneKey {
    routing::EgressRef egress;
    std::string site;
    auto operator<=>(const LaneKey&) const = default;
  };
  /// Jobs that wait for the same egresses to come back.
  struct HeldKey {
    std::uint32_t pool = 0;
    std::string provider;
    int sticky = -1;
    bool ipv4 = true, ipv6 = true;
    std::optional<std::string> sender;           ///< the sender's domain, where a smarthost of the pool refuses it
    std::optional<std::uint32_t> message_class;  ///< where that has a budget of its own
    auto operator<=>(const HeldKey&) const = default;
  };
  /// Jobs whose destination could not be reached: they share what came of the one that tried.
  struct Unreached {
    JobQueue jobs;
    AttemptResult result;
  };
  /// What a class has under way on this worker.
  struct Load {
    std::size_t preparing = 0;
    std::size_t ready = 0;  ///< in lanes
  };
  /// Picked by an operator's command that is under way.
  struct Picked {
    explicit Picked(const Resting::Expires& expires) : resting(expires) {}
    bool empty() const { return jobs.empty() && resting.empty(); }
    void add(JobPtr job);
    std::vector<JobPtr> take(std::size_t about);

    std::deque<JobPtr> jobs;
    Resting resting;
  };
  struct Established;
  /// A job and what it is for the connection that it is on.
  struct Prepared {
    JobPtr job;
    std::optional<Transaction> transaction;
  };

  // Intake and preparation (dispatcher.cpp).
  void push(JobQueue& queue, JobPtr job, bool front = false) const;
  std::optional<routing::EgressRef> egress_named(const std::string& name) const;
  std::uint32_t recovered_class(const spool::Recovered& message);
  bool recover_resting(const spool::Recovered& message, std::uint32_t its);
  Load& load_of(std::uint32_t message_class);
  Load& load_of(const Job& job) { return load_of(job.message->message_class); }
  bool keeps_body(const Job& job) const;
  boost::asio::awaitable<void> give_way(std::uint32_t message_class);
  void pump();
  boost::asio::awaitable<void> prepare(JobPtr job);
  void prepared(JobPtr job, std::map<std::string, std::vector<std::uint32_t>> by_domain, std::map<std::string, SiteAnswer> sites);
  bool admitted(JobPtr& job);
  bool follow(JobPtr& job, const routing::Admission& admission);
  bool user_admitted(JobPtr& job);
  boost::asio::awaitable<void> hold_mail_of(std::string user, std::string reason);
  bool try_cached(JobPtr& job);
  template <typename Continue>
  void hand_over(Dispatcher& owner, JobPtr job, Continue then);
  void route_to_owner(JobPtr job);
  Dispatcher& owner_of(const std::string& key) const;
  JobPtr new_job(const std::shared_ptr<const spool::Message>& message);

  // Decision.
  void dispatch(JobPtr job);
  void prepare_again(JobPtr job);
  bool reachable(const Job& job, routing::EgressRef egress) const;
  void dispatch_split(JobPtr job, std::size_t most);
  routing::Request request_for(const Job& job) const;
  std::uint32_t pool_of(const Job& job, const std::string& domain) const;
  void enqueue(JobPtr job, bool front = false);
  void hold(JobPtr job, const routing::Hold& hold);
  void release_job(JobPtr job);
  void make_due(JobPtr job);
  void release_withheld(const std::string& reason);
  std::optional<JobPtr> next_released();
  void end_held(routing::Time time);
  bool hold_is_over(std::string_view reason) const;
  void end_withheld(routing::Time time);

  // What an operator selects (selection.cpp).
  struct Judged;
  struct Selection;
  template <typename Visit>
  void visit_resting(Visit visit);
  SelectorFacts facts_of(const Job& job, std::string_view state) const;
  boost::asio::awaitable<void> judge(Selection* selection);
  boost::asio::awaitable<std::optional<std::string>> site_of(Selection* selection, std::string domain);
  void pick(Selection& selection, Picked& picked);
  bool pick_one(Selection& selection, JobPtr& job, std::string_view state, bool withheld, Picked& picked);
  boost::asio::awaitable<void> change(const QueueCommand* command, Picked* picked);
  boost::asio::awaitable<void> cancel(std::vector<JobPtr> jobs, const QueueCommand* command);
  void release_trial(Job& job);
  std::optional<routing::ShapingRefusal> shape(const Job& job, std::uint32_t source) const;
  void give_back(Job& job, std::size_t used);
  void smarthost_refuses(const Job& job, const std::string& text, routing::AccountTrouble trouble,
                         routing::Duration at_least = routing::Duration{0});

  // Budgets and rates of smarthosts (spending.cpp).
  std::size_t most_recipients(const Job& job, std::uint32_t smarthost) const;
  boost::asio::awaitable<bool> wait_for_rate(Lane* lane, bool slot);
  bool paced(const Lane& lane) const;
  bool pays(Job& job);

  bool refused_somewhere(const Job& job) const;

  // Work on many jobs, in slices (slices.cpp).
  void work();
  bool slice();
  bool step();
  void empty_lane(Lane& lane, JobQueue& into);
  void release_held();
  void offer(const HeldKey& key, HeldJobs& group);
  void offer_next();
  void reroute_lanes(const routing::Snapshot* before = nullptr);

  // Time.
  void schedule(JobPtr job);
  void arm();
  void arm_at(routing::Time next);
  void arm_soon();
  void look();
  void rest_job(JobPtr job);
  void refill();
  struct ListedAs;
  void list_resting(const Resting& resting, const ListedAs& as, const QueueFilter& filter, QueueSummary& out) const;

  // What long lanes and long holds put away (parking.cpp).
  bool park(const Lane& lane, bool moving, JobPtr& job);
  void call_back();
  void call(std::vector<JobPtr> jobs);
  void call_to_lanes();
  void call_to_holds();

  // Lanes (lanes.cpp).
  void kick(Lane& lane);
  boost::asio::awaitable<bool> await_slot(Lane* lane);
  void want_slot(const Lane& lane);
  void end_idle();
  void leave_slot(Lane& lane, bool& slot);
  void serve_waiting();
  void count_connections();
  boost::asio::awaitable<void> run_lane(Lane* lane);
  bool may_serve(const Lane& lane, std::uint32_t message_class, bool lesser) const;
  bool work_for(const Lane& lane, bool lesser) const;
  void serve(Lane& lane, bool& lesser, const Job* job) const;
  boost::asio::awaitable<JobPtr> take(Lane* lane, bool* lesser);
  bool waits_for_spool(Lane& lane);
  boost::asio::awaitable<JobPtr> loaded(JobPtr job);
  boost::asio::awaitable<void> rest(Lane* lane);
  void put_back(Lane& lane, JobPtr job);
  int messages_per_connection(const Lane& lane) const;
  boost::asio::awaitable<JobPtr> take_following(Lane* lane, const Job* present, const Carrier* connection, bool lesser);
  boost::asio::awaitable<AttemptResult> send_job(Lane* lane, Carrier* connection, Prepared* present, Prepared* following,
                                                 bool lesser);
  boost::asio::awaitable<Established> establish(Lane* lane, const Job* job);
  boost::asio::awaitable<Established> establish_at(Lane* lane, const Target* target, routing::IpAddress address, TlsPlan plan);
  OutgoingOptions outgoing_options(routing::EgressRef egress, smtp::MessageId id) const;
  Security security_for(const Lane& lane, const Target& target, const TlsPlan& plan) const;
  smtp::ClientOptions client_options(routing::EgressRef egress, const TlsPlan& plan, bool implicit_tls) const;
  boost::asio::awaitable<ConnectResult> connect_from(routing::EgressRef egress, const Target* target, routing::IpAddress address);
  boost::asio::awaitable<bool> load(Job* job);
  boost::asio::awaitable<std::shared_ptr<const Site>> smarthost_site(std::uint32_t index);
  bool closed_to_all(const Lane& lane, const AttemptResult& result) const;
  void close_lane(Lane& lane, const AttemptResult& result);
  std::size_t lane_limit(const Lane& lane) const;

  // Outcomes (outcome.cpp).
  void conclude(JobPtr job, const AttemptResult& result);
  void conclude_answered(JobPtr job, const AttemptResult& result);
  void report_canary(const Job& job, const AttemptResult& result, const std::vector<routing::Verdict>& refusals);
  void observe(const Job& job, const routing::Verdict& verdict, const std::string& text);
  std::optional<std::string> accuse(Job& job, smtp::Phase phase, const routing::Verdict& verdict, const std::string& text,
                                    routing::AccountTrouble trouble, routing::Duration at_least);
  void retry_one_by_one(JobPtr job, const AttemptResult& result);
  void conclude_trouble(JobPtr job, const AttemptResult& result);
  void count_outcomes(const Job& job, const AttemptResult& result, const std::vector<routing::Verdict>& verdicts,
                      const std::vector<std::uint32_t>& failed) const;
  void count_bounced(const Job& job, bool unknown) const;
  void next_egress(JobPtr job, const std::string& reason);
  bool settled(const Job& job, const Settled& how);
  void remember(const Job& job, const Keep& keep);
  void recall(Job& job);
  void retry_later(JobPtr job, Keep keep, bool tried = true);
  void fail(JobPtr job, std::vector<smtp::Reply> replies, std::string explanation, std::string host);
  void settle_delivered(const Job& job, const std::vector<std::uint32_t>& delivered, const AttemptResult& result);
  void report_relayed(const Job& job, const std::vector<std::uint32_t>& delivered, const AttemptResult& result);

  // Reports to senders (reports.cpp).
  boost::asio::awaitable<void> report(JobPtr job, std::vector<smtp::Reply> replies, std::string explanation, std::string host,
                                      smtp::DsnAction action);
  smtp::DsnInput dsn_input(const Job& job, smtp::DsnAction action);
  boost::asio::awaitable<std::string> original(std::shared_ptr<const spool::Message> message, std::uint64_t limit);
  void finish(const Job& job, const std::vector<std::uint32_t>& recipients, spool::RecipientState state);
  void save_progress(const Job& job, const std::string* hold_reason = nullptr);
  void warn_if_late(Job& job);
  void note(const Job& job, const std::string& outcome, const std::string& host, const std::string& reply, std::string_view label,
            std::string_view rule, const std::vector<std::uint32_t>& recipients, std::string_view phase = {},
            const std::string& esp_id = {});
  EgressCounters& counters(routing::EgressRef egress) const;

  boost::asio::any_io_executor executor_;
  std::uint32_t index_;
  DeliveryShared& shared_;
  Deadlines& deadlines_;
  std::vector<Dispatcher*> all_;
  Resolver resolver_;
  Sites sites_;
  std::shared_ptr<const routing::Snapshot> snapshot_;
  std::mt19937_64 random_;
  History history_;

  ClassWeights weights_;
  JobQueue due_;                                       ///< to be prepared
  JobQueue called_;                                    ///< the same, of those that lanes had put away
  JobQueue again_;                                     ///< to be decided anew, in slices
  JobQueue released_;                                  ///< from a hold, to be prepared
  std::map<std::string, std::uint64_t> gone_classes_;  ///< of messages that waited when the program started
  Closed<LaneKey> closed_;
  std::list<Unreached> unreached_;  ///< to be concluded, in slices
  Resting::Expires expires_;
  Resting resting_;                    ///< what waits for its time
  std::map<LaneKey, Resting> parked_;  ///< ready, and put away by long lanes
  LaneKey called_last_;                ///< of parked_
  std::map<HeldKey, HeldJobs> held_;
  std::set<HeldKey> holds_away_;              ///< those of held_ that have put mail away, and perhaps some that had
  HeldKey hold_called_last_;                  ///< of holds_away_
  std::list<Resting> strays_;                 ///< put away by holds of another configuration: to be decided anew
  std::deque<HeldKey> offers_;                ///< of held_, to be offered again in slices
  std::map<std::string, HeldJobs> withheld_;  ///< by the operator or a guard, by reason: no standing releases them
  std::list<Resting> releasing_;              ///< put away by holds that are over: to be released
  std::list<Picked> changing_;
  std::map<LaneKey, std::unique_ptr<Lane>> lanes_;
  ConnectionSlots<LaneKey> slots_;
  std::set<boost::asio::steady_timer*> idle_;  ///< of all lanes
  std::size_t open_told_ = 0, wait_told_ = 0;  ///< what the metrics know of slots_
  std::chrono::steady_clock::time_point slots_logged_{};
  std::map<std::string, std::pair<Keep, Deadline>>
      kept_;  ///< what passes through and must keep to its egress, by sender, recipient and site
  std::map<std::string, Deadline> broken_tls_;  ///< hosts that offer STARTTLS and cannot do it, until when to believe that
  std::set<const Job*> active_;
  std::vector<Load> loads_;  ///< by class
  std::size_t preparing_ = 0;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer slices_;
  bool working_ = false;
  bool started_ = false;
  bool called_turn_ = false;
  bool stopping_ = false;
  bool pumping_ = false;
  TaskGroup tasks_;
};

/// A queue of one egress to one site, with its connections.
struct Dispatcher::Lane {
  LaneKey key;
  std::shared_ptr<const Site> site;
  JobQueue ready;
  std::size_t connections = 0;                   ///< also those that are being opened, or wait for that
  std::size_t slots = 0;                         ///< those of them that are counted in slots_: open, or being opened
  boost::asio::steady_timer* waiting = nullptr;  ///< the one that waits for a slot
  std::size_t lesser = 0;                        ///< those of them with mail of a class that leaves room for another
  std::vector<boost::asio::steady_timer*> idle;  ///< connections that wait for a job
  bool opened = false;                           ///< a connection was opened, and the login taken
  Deadline moved{};                              ///< when something was delivered last
};

}  // namespace egret::relay
