#include "relay/program.hpp"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <thread>

#include "config/esp_events.hpp"
#include "config/succession.hpp"
#include "relay/admin/admin.hpp"
#include "relay/alerts/alerts.hpp"
#include "relay/brakes/brakes.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/esp/esp_feedback.hpp"
#include "relay/ingress/ingress.hpp"
#include "relay/reputation/account_watch.hpp"
#include "relay/reputation/budget_watch.hpp"
#include "relay/reputation/prober.hpp"
#include "relay/reputation/readiness_watch.hpp"
#include "relay/runtime/log.hpp"
#include "relay/runtime/out_of_memory.hpp"
#include "relay/runtime/service_manager.hpp"
#include "relay/spool/watch.hpp"
#include "relay/state/budget_store.hpp"
#include "relay/state/state.hpp"
#include "relay/upgrade.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

// Within the ten seconds that a stop may take.
constexpr auto sessions_deadline = 4s;
constexpr auto deliveries_deadline = 8s;
constexpr auto alerts_deadline = 3s;

constexpr std::size_t most_retired = 100;
constexpr auto longest_use = 30min;  // nobody lets a connection and its look-ups take longer
constexpr auto retired_kept = 24h;   // a replaced configuration lives on for whoever began under it

/// One worker thread and what lives on it.
struct Worker {
  explicit Worker(DeliveryShared delivery) : shared(std::move(delivery)) {}

  DeliveryShared shared;
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
  Deadlines client_deadlines{context.get_executor()};
  Deadlines delivery_deadlines{context.get_executor()};
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<Ingress> ingress;
  std::thread thread;

  asio::awaitable<void> stop(bool keep_doors) {
    const Deadline start = std::chrono::steady_clock::now();
    co_await ingress->stop(start + sessions_deadline, keep_doors);
    co_await dispatcher->stop(start + deliveries_deadline);
    co_await ingress->finish(start + deliveries_deadline + 500ms);
    co_await dispatcher->stop(start + deliveries_deadline + 1s);  // what the last verdicts left to do
  }
};

spool::Options spool_options(const config::Config& config) {
  spool::Options out;
  out.directory = std::filesystem::path(config.data_dir) / "spool";
  out.reserve = config.spool.reserve;
  out.alive = [last = Deadline{}]() mutable {
    const Deadline time = std::chrono::steady_clock::now();
    if (time - last < 1s) return;
    last = time;
    service_manager::starting();
  };
  return out;
}

/// Everything that it listens on.
std::vector<ListenAddress> listen_addresses(const config::Config& config) {
  std::vector<ListenAddress> out{{config.admin.ip, config.admin.port}};
  for (const auto& listener : config.listeners) out.push_back({listener.ip, listener.port});
  if (config.event_listener) out.push_back({config.event_listener->ip, config.event_listener->port});
  return out;
}

class Program {
 public:
  Program(std::shared_ptr<const config::Config> config, const Invocation& invocation)
      : config_(std::move(config)),
        inherited_(service_manager::passed_sockets()),
        successor_(control_.get_executor(), invocation) {
    signals_.add(SIGUSR2);
  }

  int run() {
    service_manager::starting();
    drop_unused_sockets();
    check_ports_free(*config_, nullptr, inherited_);
    state_ = std::make_unique<State>(std::filesystem::path(config_->data_dir), config_);
    spool_ = std::make_unique<spool::Spool>(spool_options(*config_));
    build();
    spool_->start([&](const spool::Recovered& message) {
      const auto id = static_cast<std::uint64_t>(message.id);
      workers_[(id ^ id >> 20) % workers_.size()]->dispatcher->recover(message);
    });
    malloc_trim(0);  // what reading the spool took
    if (const auto waiting = spool_->counters().waiting)
      log::info("messages waiting from before", {{"count", std::to_string(waiting)}});
    start();
    control_.run();
    if (failure_) std::rethrow_exception(failure_);
    return 0;
  }

  /// After run(): the listening sockets for whoever takes over, now the caller's; nothing where it was a stop.
  std::optional<std::vector<int>> handed_over() { return std::exchange(released_, std::nullopt); }

 private:
  /// One too many is no reason to take no mail at all.
  void drop_unused_sockets() {
    for (const auto& address : inherited_.keep(listen_addresses(*config_)))
      log::warn("a socket was passed to listen on, and the configuration has no listener there: it is closed",
                {{"address", address}, {"action", "remove it from egret.socket, or add the listener and restart"}});
  }

  void build() {
    budgets_ = std::make_unique<Budgets>(*config_);
    reputation_ = std::make_unique<Reputation>(control_.get_executor(), config_, events_,
                                               [this](auto snapshot) { publish(std::move(snapshot)); });
    guard_ = std::make_unique<Guard>(control_.get_executor(), *config_, *reputation_, events_);
    brakes_ = std::make_unique<Brakes>(control_.get_executor(), *config_, events_);
    state_->keep(*brakes_);
    state_->restore(*reputation_, *budgets_, *guard_);
    budgets_->open(std::make_unique<BudgetStore>(config_->data_dir), now());
    reputation_->on_changed([this](std::uint32_t source) { state_->changed(source); });
    budget_watch_ = std::make_unique<BudgetWatch>(control_.get_executor(), *budgets_, events_);
    spool_watch_ = std::make_unique<spool::Watch>(control_.get_executor(), *spool_, events_);
    readiness_watch_ = std::make_unique<ReadinessWatch>(control_.get_executor(), config_, *reputation_);
    account_watch_ = std::make_unique<AccountWatch>(control_.get_executor(), config_, *reputation_, events_);
    prober_ = std::make_unique<Prober>(control_.get_executor(), config_, *reputation_);
    reputation_->on_check_now([this](std::uint32_t source, const std::string& list) { prober_->check_now(source, list); });
    common_.cache.limit = config_->spool.cache;
    sts_ = std::make_unique<StsCache>(std::filesystem::path(config_->data_dir), config_->delivery.allow_private);
    ingress_shared_ = std::make_unique<IngressShared>(*config_);
    tls_ = std::make_shared<DeliveryTls>(*config_);
    esp_feedback_ = std::make_unique<EspFeedback>(control_.get_executor(), config_, events_, *spool_, metrics_, inherited_);
    build_workers(delivery_shared(tls_));
    brakes_->on_change([this](const std::string& user, routing::UserState state, const std::string& reason) {
      publish_user(user, state, reason);
    });
    esp_feedback_->on_event([this](const EspRecord& record) { count_esp_event(record); });
    alerts_ = alerts_of(config_);
    esp_feedback_->connect(dispatchers());
    credentials_ = std::make_unique<CredentialsWatch>(control_.get_executor(), config_,
                                                      [this](const Credentials& credentials) { publish(credentials); });
    AdminContext context{config_,
                         *spool_,
                         *reputation_,
                         prober_,
                         events_,
                         metrics_,
                         *budgets_,
                         *guard_,
                         common_.handovers,
                         common_.unknown_replies,
                         dispatchers(),
                         [this] { return ready_; },
                         [this] { return reload(); },
                         [this] { return upgrade(); },
                         account_watch_.get(),
                         esp_feedback_.get(),
                         brakes_.get()};
    admin_ = std::make_unique<AdminServer>(control_.get_executor(), std::move(context));
  }

  std::vector<Dispatcher*> dispatchers() const {
    std::vector<Dispatcher*> out;
    for (const auto& worker : workers_) out.push_back(worker->dispatcher.get());
    return out;
  }

  /// What an ESP says of mail that it took speaks for or against who sent it.
  void count_esp_event(const EspRecord& record) {
    if (!record.handover) return;
    const Handover& mail = *record.handover;
    if (record.kind == routing::EspEventKind::complained) brakes_->complained(mail.user, mail.sender);
    if (record.kind == routing::EspEventKind::bounced && record.permanent) brakes_->bounced_later(mail.user, mail.sender);
  }

  /// What each worker works with under the present configuration.
  DeliveryShared delivery_shared(std::shared_ptr<const DeliveryTls> tls) {
    while (metrics_.sources.size() < config_->topology.sources.size()) metrics_.sources.emplace_back();
    while (metrics_.smarthosts.size() < config_->smarthosts.size()) metrics_.smarthosts.emplace_back();
    DeliveryShared out{config_, std::move(tls), *spool_, *reputation_, metrics_, *budgets_, *guard_,
                       common_, nullptr,        nullptr, nullptr,      {},       {}};
    out.sts = config_->delivery.mta_sts ? sts_.get() : nullptr;
    out.esp_mail = esp_feedback_->mail();
    out.brakes = brakes_.get();
    for (auto& counters : metrics_.sources) out.source_counters.push_back(&counters);
    for (auto& counters : metrics_.smarthosts) out.smarthost_counters.push_back(&counters);
    return out;
  }

  void build_workers(const DeliveryShared& shared) {
    const auto threads =
        config_->threads > 0 ? static_cast<unsigned>(config_->threads) : std::max(1u, std::thread::hardware_concurrency());
    std::vector<Dispatcher*> all;
    for (unsigned i = 0; i < threads; ++i) {
      auto worker = std::make_unique<Worker>(shared);
      worker->dispatcher =
          std::make_unique<Dispatcher>(worker->context.get_executor(), i, worker->shared, worker->delivery_deadlines);
      worker->ingress = std::make_unique<Ingress>(worker->context.get_executor(), worker->shared, *ingress_shared_,
                                                  *worker->dispatcher, worker->client_deadlines);
      all.push_back(worker->dispatcher.get());
      workers_.push_back(std::move(worker));
    }
    for (auto& worker : workers_) worker->dispatcher->connect(all);
  }

  /// Those that the configuration wants; null where it wants none. Throws when a target's certificates cannot be loaded.
  std::unique_ptr<Alerts> alerts_of(const std::shared_ptr<const config::Config>& config) {
    while (metrics_.alerts.size() < config->alerts.size()) metrics_.alerts.emplace_back();
    if (config->alerts.empty()) return nullptr;
    AlertsContext context{config, events_, *spool_, metrics_, {}};
    for (const auto& worker : workers_) context.dispatchers.push_back(worker->dispatcher.get());
    return std::make_unique<Alerts>(control_.get_executor(), std::move(context));
  }

  void start() {
    warn_about_keys();
    admin_->open(inherited_);
    std::vector<Doors> doors;
    for (std::size_t i = 0; i < workers_.size(); ++i)
      doors.push_back(open_listeners(workers_[i]->context.get_executor(), *config_, inherited_, i, workers_.size()));
    inherited_.close();
    if (alerts_) alerts_->start();
    esp_feedback_->start();
    reputation_->start();
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      Worker& worker = *workers_[i];
      asio::post(worker.context, [&worker, mine = std::make_shared<Doors>(std::move(doors[i]))] {
        worker.dispatcher->start();
        worker.ingress->start(std::move(*mine));
      });
      worker.thread = std::thread([this, &worker] { work(worker); });
    }
    prober_->start();
    budget_watch_->start();
    spool_watch_->start();
    readiness_watch_->start();
    account_watch_->start();
    brakes_->start();
    credentials_->start();
    sts_->start(control_.get_executor());
    admin_->start();
    state_->start(control_.get_executor(), *reputation_, *budgets_, *guard_);
    ready_ = true;
    for (const auto& listener : config_->listeners) log::info("listening", {{"address", listener.address}, {"protocol", "smtp"}});
    log::info("listening", {{"address", config_->admin.address}, {"protocol", "http"}});
    start_reports();
    wait_for_signal();
  }

  void start_reports() {
    std::vector<asio::any_io_executor> executors;
    for (auto& worker : workers_) executors.emplace_back(worker->context.get_executor());
    reports_ = std::make_unique<ServiceReports>(control_.get_executor(), std::move(executors), [this] {
      std::string listening;
      for (const auto& listener : config_->listeners) listening += (listening.empty() ? "" : ", ") + listener.address;
      const std::string waiting = std::to_string(spool_->counters().waiting) + " messages waiting";
      return ready_ ? "listening on " + listening + "; " + waiting : "ending; " + waiting;
    });
    reports_->start();
  }

  void warn_about_keys() {
    for (const auto& signer : config_->dkim)
      if (signer.key->weak())
        log::warn("DKIM key below 2048 bits: some receivers do not count its signatures",
                  {{"domain", signer.domain}, {"selector", signer.selector}});
  }

  void work(Worker& worker) {
    try {
      worker.context.run();
    } catch (const std::exception& e) {
      // Broken invariants end the program: the spool makes a restart safe, going on might not be.
      log::error("worker failed", {{"error", e.what()}});
      log::stop();
      std::abort();
    }
  }

  void publish(const std::shared_ptr<const routing::Snapshot>& snapshot) {
    for (auto& worker : workers_)
      asio::post(worker->context, [dispatcher = worker->dispatcher.get(), snapshot] { dispatcher->set_snapshot(snapshot); });
  }

  void publish(const Credentials& credentials) {
    for (auto& worker : workers_)
      asio::post(worker->context, [ingress = worker->ingress.get(), credentials] { ingress->set_credentials(credentials); });
  }

  /// Mail of a suspended user that waits is held; of one who is free again, or only slowed, it goes on.
  void publish_user(const std::string& user, routing::UserState state, const std::string& reason) {
    for (auto& worker : workers_)
      asio::post(worker->context, [dispatcher = worker->dispatcher.get(), user, state, reason] {
        if (state == routing::UserState::suspended)
          dispatcher->hold_user(user, Brakes::hold_reason(user) + ": " + reason);
        else
          dispatcher->release_user(user);
      });
  }

  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      if (ending_) return signal_while_ending(signal);
      if (signal == SIGHUP) {
        log::info("SIGHUP: the configuration is read again");
        stops_.spawn(reload_on_signal(), "reload");
        return wait_for_signal();
      }
      if (signal == SIGUSR2) {
        log::info("SIGUSR2: the program on disk is to take over");
        stops_.spawn(upgrade_on_signal(), "upgrade");
        return wait_for_signal();
      }
      log::info("stopping", {{"signal", std::to_string(signal)}});
      service_manager::stopping();
      end(false);
    });
  }

  /// A stop is an order also while the program ends to be replaced.
  void signal_while_ending(int signal) {
    if (keep_sockets_ && (signal == SIGTERM || signal == SIGINT)) {
      log::info("stopping: nobody takes over", {{"signal", std::to_string(signal)}});
      service_manager::stopping();
      keep_sockets_ = false;
    }
    wait_for_signal();
  }

  void end(bool keep_sockets) {
    ending_ = true;
    keep_sockets_ = keep_sockets;
    ready_ = false;
    successor_.cancel();
    ingress_shared_->authenticator.stop();
    asio::co_spawn(control_, stop(), [this](std::exception_ptr failure) {
      failure_ = failure;
      control_.stop();
    });
  }

  // ---- upgrade -------------------------------------------------------------------------------------------------------

  asio::awaitable<void> upgrade_on_signal() { co_await upgrade(); }

  /// Looks whether the program on disk can take over, and if so, begins the end of this one. On the control thread.
  asio::awaitable<UpgradeResult> upgrade() {
    UpgradeResult result;
    result.program = successor_.invocation().program;
    if (!ready_ || reloading_ || asking_successor_) {
      result.refusal = "a reload, an upgrade or the end of the program is under way";
    } else {
      const Reloading under_way(asking_successor_);
      result = co_await successor_.check(config_->file);
      if (result.ok && (!ready_ || reloading_)) {
        result.ok = false;
        result.refusal = "a reload or the end of the program came first";
      }
      if (result.ok) result.refusal = taken_address();
      result.ok = result.refusal.empty();
    }
    told(result);
    if (result.ok) end(true);
    co_return result;
  }

  /// The new program's check does not bind anything, as this one still listens. Empty where nothing is in the way, or the
  /// configuration is only for the new program to read; what is on a port of ours shows when that is free.
  std::string taken_address() const {
    config::Problems unreadable;
    const auto next = config::load_file(config_->file, config::process_environment(), unreadable);
    if (!next) return "";
    const auto ours = listen_addresses(*config_);
    try {
      for (const auto& address : listen_addresses(*next))
        if (std::ranges::find(ours, address.port, &ListenAddress::port) == ours.end()) check_port_free(address);
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  }

  void told(const UpgradeResult& result) {
    Event event;
    event.kind = result.ok ? "upgrading" : "upgrade-refused";
    event.text = result.program + (result.ok ? " (" + result.version + ")" : ": " + result.refusal);
    event.action = result.ok ? "new connections wait until it listens"
                             : "this program goes on; " + result.program + " check -c " + config_->file + " shows every problem";
    if (result.ok) service_manager::reloading();
    events_.add(std::move(event));
  }

  // ---- reload --------------------------------------------------------------------------------------------------------

  asio::awaitable<void> reload_on_signal() { co_await reload(); }

  /// Reads the configuration file again and swaps everything, or, where it has errors, nothing. On the control thread.
  asio::awaitable<ReloadResult> reload() {
    if (!ready_ || reloading_) co_return refused({{config_->file, 0, 0, "", "a reload or the end of the program is under way"}});
    const Reloading under_way(reloading_);
    service_manager::reloading();
    ReloadResult result;
    std::optional<Succession> next = prepare(result.problems);
    if (next) {
      result.ok = true;
      result.restart = config::needing_restart(*config_, *next->config);
      co_await adopt(std::move(*next));
      told(result);
    } else {
      result = refused(std::move(result.problems));
    }
    if (ready_) service_manager::ready();
    co_return result;
  }

  /// However a reload ends, a stop must not wait for it for ever.
  struct Reloading {
    explicit Reloading(bool& under_way) : flag(under_way) { flag = true; }
    ~Reloading() { flag = false; }
    Reloading(const Reloading&) = delete;
    Reloading& operator=(const Reloading&) = delete;
    bool& flag;
  };

  /// A configuration that can take over: everything that may fail has been done.
  struct Succession {
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const DeliveryTls> tls;
    Credentials credentials;
    std::vector<Doors> doors;
    std::unique_ptr<Prober> prober;
    std::unique_ptr<Alerts> alerts;  ///< null where there are none, or the same as before
    EspFeedback::Next esp_feedback;
  };

  std::optional<Succession> prepare(config::Problems& problems) {
    const auto loaded = config::load_file(config_->file, config::process_environment(), problems);
    if (!loaded) return std::nullopt;
    try {
      Succession out{config::succeed(*config_, *loaded), nullptr, {}, {}, nullptr, nullptr, {}};
      out.credentials = CredentialsWatch::read(*out.config);
      out.tls = std::make_shared<DeliveryTls>(*out.config);
      check_ports_free(*out.config, config_.get(), inherited_);
      for (auto& worker : workers_)
        out.doors.push_back(open_listeners(worker->context.get_executor(), *out.config, config_.get()));
      out.prober = std::make_unique<Prober>(control_.get_executor(), out.config, *reputation_);
      out.esp_feedback = esp_feedback_->prepare(out.config);
      if (out.config->alerts != config_->alerts) out.alerts = alerts_of(out.config);
      return out;
    } catch (const std::exception& e) {
      problems.push_back({config_->file, 0, 0, "", e.what()});
      return std::nullopt;
    }
  }

  asio::awaitable<void> adopt(Succession next) {
    retire();
    const bool same_alerts = config_->alerts == next.config->alerts;
    config_ = next.config;
    tls_ = next.tls;
    esp_feedback_->adopt_memory(next.esp_feedback, config_);
    const DeliveryShared shared = delivery_shared(next.tls);
    budgets_->configure(*config_);
    state_->configure(config_);
    guard_->configure(*config_);
    brakes_->configure(*config_);
    admin_->configure(config_);
    // Its snapshot reaches each worker before the configuration that needs it.
    reputation_->configure(config_);
    credentials_->configure(config_, next.credentials);
    ingress_shared_->configure(*config_);
    common_.cache.limit = config_->spool.cache;
    sts_->allow_private(config_->delivery.allow_private);
    for (std::size_t i = 0; i < workers_.size(); ++i)
      asio::post(workers_[i]->context, [worker = workers_[i].get(), shared, credentials = next.credentials,
                                        doors = std::make_shared<Doors>(std::move(next.doors[i]))] {
        worker->shared.config = shared.config;
        worker->shared.tls = shared.tls;
        worker->shared.sts = shared.sts;
        worker->shared.esp_mail = shared.esp_mail;
        worker->shared.source_counters = shared.source_counters;
        worker->shared.smarthost_counters = shared.smarthost_counters;
        worker->dispatcher->configure();
        worker->ingress->configure(credentials, std::move(*doors));
      });
    log::set_level(config_->log.level);
    warn_about_keys();
    co_await prober_->stop();
    next.prober->inherit(*prober_);
    prober_ = std::move(next.prober);
    prober_->start();
    readiness_watch_->configure(config_);
    account_watch_->configure(config_);
    co_await esp_feedback_->adopt(std::move(next.esp_feedback));
    if (alerts_ && same_alerts) alerts_->configure(config_);
    if (same_alerts) co_return;
    // The new ones listen before the old ones stop: no event is missed.
    const std::unique_ptr<Alerts> former = std::exchange(alerts_, std::move(next.alerts));
    if (alerts_) alerts_->start();
    if (former) co_await former->stop(in(alerts_deadline));
  }

  /// Coroutines may hold references into the configuration that they began under, for as long as a delivery takes.
  void retire() {
    const auto time = std::chrono::steady_clock::now();
    std::erase_if(retired_, [&](const Retired& old) { return old.until <= time; });
    if (retired_.size() >= most_retired && retired_.front().until <= time + retired_kept - longest_use)
      retired_.erase(retired_.begin());
    retired_.push_back({config_, tls_, time + retired_kept});
  }

  ReloadResult refused(config::Problems problems) {
    for (const auto& problem : problems) log::error("configuration not reloaded", {{"problem", problem.to_string()}});
    Event event;
    event.kind = "reload-refused";
    event.text = problems.empty() ? "" : problems.front().to_string();
    event.action = "the configuration stays as it was; egret check -c " + config_->file + " shows every problem";
    events_.add(std::move(event));
    return {false, std::move(problems), {}};
  }

  void told(const ReloadResult& result) {
    Event event;
    event.kind = "reloaded";
    event.text = config_->file;
    for (const auto& key : result.restart) event.action += (event.action.empty() ? "" : ", ") + key;
    if (!event.action.empty()) event.action += ": shows only after a restart";
    events_.add(std::move(event));
  }

  static asio::awaitable<void> stop_worker(Worker* worker, bool keep_doors) {
    co_await asio::co_spawn(worker->context, worker->stop(keep_doors), asio::use_awaitable);
  }

  /// The ways in first, then the ways out, then those who keep the books.
  asio::awaitable<void> stop() {
    // All at once: each may use its whole time.
    const bool keep = keep_sockets_;
    spool_->end_waiting();
    for (auto& worker : workers_) stops_.spawn(stop_worker(worker.get(), keep), "stop");
    while (reloading_) {  // it began before the stop, and ends by itself
      asio::steady_timer soon(control_, 10ms);
      co_await soon.async_wait(asio::use_awaitable);
    }
    // Beside the workers, whose queues it counts; what happens from now on is in the log.
    if (alerts_) stops_.spawn(alerts_->stop(in(alerts_deadline)), "stop alerts");
    stops_.spawn(esp_feedback_->stop(keep), "stop events");
    co_await stops_.wait();
    co_await prober_->stop();
    co_await readiness_watch_->stop();
    co_await account_watch_->stop();
    credentials_->stop();
    sts_->stop();
    budget_watch_->stop();
    spool_watch_->stop();
    reputation_->stop();
    std::vector<int> sockets;
    if (keep)
      sockets = co_await admin_->stop_and_release();
    else
      co_await admin_->stop();
    brakes_->stop();
    state_->stop(*reputation_, *budgets_, *guard_);
    reports_->stop();
    for (auto& worker : workers_) worker->guard.reset();
    for (auto& worker : workers_) worker->context.stop();
    for (auto& worker : workers_) worker->thread.join();
    if (keep) release(std::move(sockets));
    const auto counters = spool_->counters();
    log::info("stopped", {{"waiting", std::to_string(counters.waiting)}});
  }

  void release(std::vector<int> sockets) {
    for (auto& worker : workers_) {
      if (!keep_sockets_) worker->ingress->dismiss();
      for (const int socket : worker->ingress->release()) sockets.push_back(socket);
    }
    for (const int socket : esp_feedback_->release()) sockets.push_back(socket);
    if (keep_sockets_)
      released_ = std::move(sockets);
    else
      for (const int socket : sockets) close(socket);
  }

  // Destroyed from the bottom up: workers before what they use, the spool last of all.
  std::shared_ptr<const config::Config> config_;
  InheritedSockets inherited_;  ///< empty from start() on
  Metrics metrics_;
  Events events_;
  std::unique_ptr<spool::Spool> spool_;
  std::unique_ptr<State> state_;
  std::unique_ptr<Budgets> budgets_;
  asio::io_context control_{1};
  asio::signal_set signals_{control_, SIGTERM, SIGINT, SIGHUP};
  Successor successor_;
  std::unique_ptr<ServiceReports> reports_;
  std::unique_ptr<Reputation> reputation_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<Brakes> brakes_;
  std::unique_ptr<BudgetWatch> budget_watch_;
  std::unique_ptr<spool::Watch> spool_watch_;
  std::unique_ptr<ReadinessWatch> readiness_watch_;
  std::unique_ptr<AccountWatch> account_watch_;
  std::unique_ptr<Prober> prober_;
  DeliveryCommon common_;
  std::shared_ptr<const DeliveryTls> tls_;
  std::unique_ptr<StsCache> sts_;
  std::unique_ptr<IngressShared> ingress_shared_;
  std::unique_ptr<EspFeedback> esp_feedback_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Alerts> alerts_;
  std::unique_ptr<CredentialsWatch> credentials_;
  std::unique_ptr<AdminServer> admin_;
  TaskGroup stops_{control_.get_executor()};
  std::exception_ptr failure_;
  bool ready_ = false;
  bool reloading_ = false;
  bool asking_successor_ = false;
  bool ending_ = false;
  bool keep_sockets_ = false;  ///< another program takes over
  std::optional<std::vector<int>> released_;
  struct Retired {
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const DeliveryTls> tls;
    Deadline until;
  };
  std::vector<Retired> retired_;
};

}  // namespace

namespace {

/// Ten thousand clients need as many descriptors; the soft limit of most systems is a thousand.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int run_program(std::shared_ptr<const config::Config> config) {
  std::signal(SIGPIPE, SIG_IGN);
  end_when_out_of_memory();
  raise_descriptor_limit();
  log::start(config->log.level, config->log.format);
  // While these are handled by somebody, one that comes when the program has ended and its successor not begun ends nothing.
  asio::io_context nobody;
  const asio::signal_set handled(nobody, SIGHUP, SIGUSR2);
  asio::signal_set orders(nobody, SIGTERM, SIGINT);
  bool stop_ordered = false;
  orders.async_wait([&](const boost::system::error_code& error, int) { stop_ordered = !error; });
  const Invocation invocation = Invocation::of_this_process();
  std::optional<std::vector<int>> sockets;
  int code = 2;
  try {
    Program program(config, invocation);
    code = program.run();
    sockets = program.handed_over();
  } catch (const std::exception& e) {
    log::error("cannot start", {{"reason", e.what()}});
  }
  if (sockets) {
    // From here on they end the process; one that came before is heard now.
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGINT, SIG_DFL);
    nobody.poll();
    if (stop_ordered) {
      log::info("stopping: nobody takes over");
      service_manager::stopping();
      for (const int socket : *sockets) close(socket);
      sockets.reset();
    }
  }
  if (sockets) {
    hand_over(invocation, *sockets, config->log.level, config->log.format);
    code = 2;
  }
  log::stop();
  return code;
}

}  // namespace egret::relay
