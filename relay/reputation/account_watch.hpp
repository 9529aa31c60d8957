// What SES says of the account (GetAccount), asked every `poll_account`: a smarthost that may not send, or has nothing left of
// its quota, rests before a message finds out. A question that fails changes nothing: mail goes on as if it had not been asked.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/reputation/events.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/runtime/task_group.hpp"
#include "routing/esp_api.hpp"

namespace egret::relay {

/// The last that is known of an account.
struct AccountStatus {
  std::optional<routing::SesAccount> account;
  std::optional<routing::Time> checked;  ///< when that was said
  std::string error;                     ///< of the last question; empty when it was answered
};

/// Lives on the control thread.
class AccountWatch {
 public:
  AccountWatch(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Reputation& reputation,
               Events& events);

  void start();
  boost::asio::awaitable<void> stop();
  /// Another configuration (config::succeed).
  void configure(std::shared_ptr<const config::Config> config);

  /// Null where nobody asks. The pointer is good until the next call of anything else here.
  const AccountStatus* status(std::uint32_t smarthost) const;
  /// Recipients a second that the ESP takes (MaxSendRate), once it is known.
  std::optional<double> max_rate(std::uint32_t smarthost) const;

 private:
  struct Watched {
    AccountStatus status;
    std::shared_ptr<const config::HttpApi> api;  ///< that it was asked by; null: not yet
    std::optional<Deadline> asked;
    bool resting = false;  ///< a rest was asked for because of the last answer
  };

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> ask(std::uint32_t smarthost);
  std::optional<Deadline> due(std::uint32_t smarthost) const;
  void judge(std::uint32_t smarthost, const routing::SesAccount& found);
  void tell(std::uint32_t smarthost, const std::optional<routing::SesAccount>& before, const routing::SesAccount& found);
  void failed(std::uint32_t smarthost, std::string error);

  std::shared_ptr<const config::Config> config_;
  Reputation& reputation_;
  Events& events_;
  Resolver resolver_;
  Deadlines deadlines_;
  boost::asio::steady_timer timer_;
  std::vector<Watched> watched_;  ///< by smarthost
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
