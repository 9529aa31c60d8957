// What mail by smarthosts has used of its budgets, and the sources' shaping in use, shared by all workers.
//
// Three accounts are charged for every job: the smarthost's, its class's (at all smarthosts together), and that of the two
// together, which says what failover costs. An account counts in one or more units and periods; some of the counters
// are limited.
//
// A job is charged when its route is found, which keeps others from taking the same money; it is paid for when it is sent.
// A limited counter is safe over a crash: on disk (relay/state/budget_store) stands a *bound*, and never is more paid
// than the bound says. Bounds run ahead of use in blocks, so that few charges wait for the disk; after a crash the whole
// bound counts as used: at most a block is wasted, and nothing is ever spent twice. A stop writes down what was
// really used. Counters without a limit are saved within a second.
//
// Also here, because it is decided in the same moment: a smarthost's rate. A job that has to wait longer than max_wait in
// its lane is refused, so that it takes the next smarthost or is held.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/shaping.hpp"
#include "routing/budget_stage.hpp"
#include "routing/spending.hpp"

namespace egret::relay {

class BudgetStore;

/// What a job was charged, for giving it back.
struct Charge {
  routing::Time when{};
  routing::Price price;  ///< without amount where the smarthost has none
  std::uint32_t recipients = 0;
  std::uint32_t smarthost = 0;
  std::uint32_t message_class = 0;
  bool waits = false;  ///< for its turn by the smarthost's rate
  bool sent = false;   ///< or about to be: see pay()
};

/// Why a smarthost is not to be used now, for people, and until when.
struct SpendingRefusal {
  std::string reason;
  std::optional<routing::Time> until;
};

/// One counter as people see it.
struct BudgetLine {
  routing::Unit unit;
  routing::Duration per{};
  std::optional<std::uint64_t> limit;
  std::uint64_t used = 0;
  routing::Time ends{};
  routing::BudgetStage stage = routing::BudgetStage::plenty;
};

/// A limit that has come to another stage.
struct BudgetNews {
  std::string smarthost;      ///< or
  std::string message_class;  ///< whose budget it is
  routing::SpendingLimit limit;
  std::uint64_t used = 0;
  routing::Time ends{};
  routing::BudgetStage from = routing::BudgetStage::plenty, to = routing::BudgetStage::plenty;
};

/// What went by a smarthost today (UTC).
struct Spent {
  std::uint64_t recipients = 0;
  std::map<routing::Unit, std::uint64_t> money;
  Spent& operator+=(const Spent& o);
};

/// Thread-safe. Indices are those of the configuration.
class Budgets {
 public:
  using Instant = std::chrono::steady_clock::time_point;
  static constexpr auto max_wait = std::chrono::seconds(10);  ///< in a lane, for a smarthost's rate

  explicit Budgets(const config::Config& config);
  ~Budgets();

  /// Another configuration (config::succeed): what was used stays used.
  void configure(const config::Config& config);
  /// Takes over what was saved, and makes charges safe from now on. Before the workers start.
  void open(std::unique_ptr<BudgetStore> store, routing::Time now);
  /// Saves what changed and lets bounds run ahead. Once a second, on the control thread.
  void save(routing::Time now);
  /// Saves what was really used. After the last charge.
  void close(routing::Time now);

  /// Takes the recipients from every budget concerned, if they fit into all.
  /// `its_turn`: it has waited for the rate already.
  std::optional<SpendingRefusal> charge(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                        routing::Time now, std::optional<Charge>& out, bool its_turn = false);
  /// Before it is sent; waits for the disk when the bound is reached. False: it could not be written down, do not send.
  bool pay(Charge& charge);
  /// The same as charge() without taking anything.
  std::optional<SpendingRefusal> refusal(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                         routing::Time now) const;
  /// Gives back `recipients` of what was charged. What was taken in a period that is over is gone.
  void refund(Charge& charge, std::uint64_t recipients);
  /// Whether each period that it was charged in still lasts, so that it may be sent now.
  bool current(const Charge& charge, routing::Time now) const;
  /// As many recipients as may ever be charged at once; at least one.
  std::size_t most_recipients(std::uint32_t smarthost, std::uint32_t message_class) const;

  /// How long until the next message may go by the smarthost; 0: it may go now.
  routing::Duration wait(std::uint32_t smarthost, Instant now) const;
  /// Its recipients go now.
  void take_turn(Charge& charge, Instant now);
  bool paced(std::uint32_t smarthost) const;

  std::optional<routing::Price> price(std::uint32_t smarthost) const;
  std::vector<BudgetLine> smarthost_lines(std::uint32_t smarthost, routing::Time now) const;
  std::vector<BudgetLine> class_lines(std::uint32_t message_class, routing::Time now) const;
  Spent today(std::uint32_t smarthost, std::uint32_t message_class, routing::Time now) const;
  /// Stages that were not told in the present periods. Each is told once: what this returns is saved as told.
  std::vector<BudgetNews> take_news(routing::Time now);

  Shaping shaping;

 private:
  struct Counter {
    routing::Unit unit;
    routing::Duration per{};
    std::optional<std::uint64_t> limit;
    routing::BudgetUse use;
    std::uint64_t sent = 0;    ///< of that, what is paid for
    routing::BudgetUse bound;  ///< as on disk
    routing::BudgetUse seen;   ///< at the last save()
    std::uint64_t grain = 1;   ///< what one recipient took last: a crash wastes no part of one
    routing::BudgetStage told = routing::BudgetStage::plenty;
    bool refused = false;  ///< something did not fit in this period
    bool unsaved = false;

    routing::Budget budget() const { return {limit.value_or(0), per}; }
    void roll(routing::Time now);
    std::uint64_t part(std::uint64_t divisor) const;
    bool fits(std::uint64_t amount) const;
    bool bounded(std::uint64_t amount) const;
    routing::BudgetStage stage() const;
  };
  struct Account {
    std::string smarthost, message_class;  ///< one or both
    std::vector<Counter> counters;
  };
  struct Pace {
    std::optional<routing::Budget> rate;
    Instant next{};
    std::vector<std::uint64_t> waiting;  ///< recipients in lanes, by class
  };
  /// A row that is being written.
  struct Writing {
    Account* account;
    std::size_t counter;
    routing::BudgetUse use;
  };

  Account& account(const std::string& smarthost, const std::string& message_class);
  static Counter& counter(Account& account, routing::Unit unit, routing::Duration per);
  static void limit(Account& account, const config::Spending& spending);
  std::array<Account*, 3> accounts(std::uint32_t smarthost, std::uint32_t message_class) const;
  std::optional<SpendingRefusal> refused(std::uint32_t smarthost, std::uint32_t message_class, std::uint64_t recipients,
                                         routing::Time now, bool note) const;
  std::optional<SpendingRefusal> too_fast(std::uint32_t smarthost, std::uint32_t message_class, routing::Time now) const;
  bool reserve(const std::array<Account*, 3>& accounts, std::uint64_t recipients, const std::optional<routing::Price>& price);
  bool write(const std::vector<Writing>& rows);
  static std::vector<BudgetLine> lines(const Account& account, routing::Time now);

  std::mutex writing_;  ///< taken before mutex_, which is never held while the disk is waited for
  mutable std::mutex mutex_;
  std::unique_ptr<BudgetStore> store_;
  std::map<std::string, std::unique_ptr<Account>> accounts_;  ///< by names: they outlive indices
  std::vector<Account*> smarthosts_, classes_, pairs_;        ///< by index; pairs smarthost by smarthost
  std::vector<std::optional<routing::Price>> prices_;
  std::vector<Pace> paces_;
};

}  // namespace egret::relay
