// An operation that another thread finishes: a coroutine awaits it, and it is resumed on the thread it started on.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <utility>

namespace egret::relay {

/// The waiting side. complete() must be called once, on the thread of the coroutine that waits.
template <class T>
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void complete(T value) = 0;
};

template <class T>
using OperationPtr = std::unique_ptr<Operation<T>>;

namespace detail {

template <class T, class Handler>
class HandlerOperation final : public Operation<T> {
 public:
  explicit HandlerOperation(Handler handler) : handler_(std::move(handler)) {}
  void complete(T value) override {
    Handler handler = std::move(handler_);
    std::move(handler)(std::move(value));
  }

 private:
  Handler handler_;
};

}  // namespace detail

/// Calls `start(OperationPtr<T>)` and awaits its completion. `start` must not complete it before it returns.
template <class T, class Start>
boost::asio::awaitable<T> await_operation(Start start) {
  return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(T)>(
      [](auto handler, Start begin) {
        using Handler = decltype(handler);
        begin(OperationPtr<T>(std::make_unique<detail::HandlerOperation<T, Handler>>(std::move(handler))));
      },
      boost::asio::use_awaitable, std::move(start));
}

}  // namespace egret::relay
