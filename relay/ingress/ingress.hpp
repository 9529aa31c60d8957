// The accepting side of one worker: listeners and the sessions of clients.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/auth/authenticator.hpp"
#include "relay/delivery/class_weights.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/ingress/admission.hpp"
#include "relay/ingress/credentials.hpp"
#include "relay/ingress/intake.hpp"
#include "relay/net/deadlines.hpp"
#include "relay/net/inherited.hpp"
#include "relay/net/tls.hpp"
#include "relay/runtime/task_group.hpp"
#include "smtp/server_session.hpp"

namespace egret::relay {

/// A listening socket of one worker. Several may have one address: inherited ones.
struct Door {
  std::string address;  ///< as the configuration has it
  boost::asio::ip::tcp::acceptor acceptor;
};
using Doors = std::vector<std::unique_ptr<Door>>;

/// Opens the listening sockets of one worker (SO_REUSEPORT, so that each worker has its own), but for those whose address
/// `previous` has too. Throws std::runtime_error with one line that names the address.
Doors open_listeners(const boost::asio::any_io_executor& executor, const config::Config& config, const config::Config* previous);

/// The same at the start, for the worker `worker` of `workers`: where there are inherited sockets, it has its share of them.
Doors open_listeners(const boost::asio::any_io_executor& executor, const config::Config& config, InheritedSockets& inherited,
                     std::size_t worker, std::size_t workers);

/// Throws like open_listeners() when another program listens there already: with SO_REUSEPORT the kernel would let
/// two of them share the port. A port on which something was inherited, or `previous` listens, is ours, with every address.
void check_ports_free(const config::Config& config, const config::Config* previous, const InheritedSockets& inherited);
/// The same of one address of which no part is ours.
void check_port_free(const ListenAddress& address);

class Ingress;

/// What the listeners of all workers share.
struct IngressShared {
  explicit IngressShared(const config::Config& config) : admission(config.limits), intake(config.spool.cache) {}
  void configure(const config::Config& config) {
    admission.configure(config.limits);
    intake.configure(config.spool.cache);
  }

  Admission admission;
  Intake intake;
  Rates rates;
  Authenticator authenticator;
  std::vector<Ingress*> all;  ///< complete before the workers start
};

/// Used from its worker's thread only.
class Ingress {
 public:
  Ingress(const boost::asio::any_io_executor& executor, DeliveryShared& delivery, IngressShared& shared, Dispatcher& dispatcher,
          Deadlines& deadlines);
  ~Ingress();

  void set_credentials(Credentials credentials);
  void start(Doors doors);
  /// The configuration in DeliveryShared is another: sessions that begin from now on have it; those that run keep theirs.
  /// Doors that it no longer names are closed, `fresh` ones opened.
  void configure(Credentials credentials, Doors fresh);
  /// Accepts no more, lets running transactions end until `deadline`, then breaks them off; those whose clients wait for
  /// the verdict of a receiver are left to finish(). With `keep_doors` the listening sockets stay open, for release().
  boost::asio::awaitable<void> stop(Deadline deadline, bool keep_doors);
  /// After the dispatchers have stopped: the last verdicts are told.
  boost::asio::awaitable<void> finish(Deadline deadline);
  /// After the same as release(), and before it, where nobody takes the sockets over: those in their queues get their 421.
  void dismiss();
  /// After finish() and the end of the worker's thread: the descriptors of the listening sockets, now the caller's.
  std::vector<int> release();

 private:
  class Session;
  /// What a session begins with, and keeps. Immutable.
  struct Front {
    std::shared_ptr<const config::Config> config;
    std::vector<smtp::ServerOptions> options;  ///< by listener
    std::vector<smtp::ServerOptions> repairing;
    std::vector<std::shared_ptr<TlsContext>> tls;  ///< null where the listener has none
    ClassWeights weights;
    bool queues = false;        ///< some listener does, for which those that pass through leave connections free
    bool header_rules = false;  ///< the class of a message may not be known before its header is
  };
  void renew_front();
  boost::asio::awaitable<void> accept(Door* door);
  void welcome(const Door& door, boost::asio::ip::tcp::socket socket, const boost::asio::ip::tcp::endpoint& peer);
  void close(Door& door);
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket, routing::IpAddress peer,
                                     std::shared_ptr<const Front> front, std::size_t listener);
  /// Reads the PROXY header that a load balancer must send; false when there is none to be believed.
  boost::asio::awaitable<bool> read_proxy_header(Stream* stream, routing::IpAddress* client, std::string* rest);
  void relieve();
  void relieve_all();
  boost::asio::awaitable<void> converse(std::unique_ptr<Stream> stream, std::shared_ptr<const Front> front, std::size_t listener,
                                        routing::IpAddress client);
  boost::asio::awaitable<void> turn_away(std::unique_ptr<Stream> stream, std::string reason);
  void trim();

  boost::asio::any_io_executor executor_;
  DeliveryShared& delivery_;
  IngressShared& shared_;
  Dispatcher& dispatcher_;
  Deadlines& deadlines_;
  Credentials credentials_;
  std::shared_ptr<const Front> front_;
  std::shared_ptr<const Front> former_front_;  ///< before the last reload
  Doors doors_;
  std::set<Session*> sessions_;
  std::size_t waiting_ = 0;  ///< sessions whose clients wait for a verdict
  Deadline relieved_{}, relieved_all_{};
  std::size_t crowd_ = 0;  ///< most sessions at once since the last trim
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
