package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/sealhttp/sealhttp/examples/internal/events"
)

// handlers are the API's, as echo has them. None of them knows whether its call is
// sealed.
type handlers struct{ *events.Service }

// account returns what Authenticate has found.
func account(c echo.Context) string {
	account, _ := c.Get("account").(string)
	return account
}

func (h handlers) Authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		account, err := h.Service.Account(c.Request())
		if err != nil {
			return err
		}
		c.Set("account", account)
		return next(c)
	}
}

// renderError answers with the errors of handlers, and with echo's own.
func renderError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		err = events.NewProblem(e.Code, fmt.Sprint(e.Message))
	}
	events.WriteProblem(c.Response(), err)
}

func (h handlers) Create(c echo.Context) error {
	var in events.NewEvent
	if err := c.Bind(&in); err != nil {
		return err
	}
	event, err := h.Service.Create(account(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderLocation, fmt.Sprintf("/events/%d", event.ID))
	return c.JSON(http.StatusCreated, event)
}

func (h handlers) List(c echo.Context) error {
	var q events.Query
	if err := c.Bind(&q); err != nil {
		return err
	}
	page, err := h.Service.List(account(c), q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func (h handlers) Get(c echo.Context) error {
	id, err := events.ParseID(c.Param("id"))
	if err != nil {
		return err
	}
	event, err := h.Service.Get(account(c), id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, event)
}

func (h handlers) Delete(c echo.Context) error {
	id, err := events.ParseID(c.Param("id"))
	if err != nil {
		return err
	}
	if err := h.Service.Delete(account(c), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (h handlers) Search(c echo.Context) error {
	var in events.PersonQuery
	if err := c.Bind(&in); err != nil {
		return err
	}
	page, err := h.Service.Search(account(c), in)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func (h handlers) PutKey(c echo.Context) error {
	keyset, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	key, err := h.Service.Register(account(c), keyset)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, key)
}
